//! What persons are shown of an operation that waits for them, what their word is bound to, and what they may change.
//!
//! Why: a person approves what he reads. So each operation that may wait has one JSON text of all that it will do; the
//! approval is bound to that text, less what changes while it waits. It is made where somebody must be asked, and only there.
//! Not here: asking (`approving`), what is done with an answer (each operation asks again).
//!
//! | action | shown | may be changed |
//! |---|---|---|
//! | `tool.call` | `arguments`, `parts` | the arguments |
//! | `message.send`, `message.publish` | `text`, `base64` or `parts` | all of it |
//! | `agent.run` | the input | the input |
//! | `data.write` | `title`, `passages`, and of a document its `readers` | the readers |
//! | `agent.create` | the whole definition, and how many | nothing |
//! | `policy.change` | the digests before and after, the sources | nothing |
//! | `sandbox.start` | the whole specification | nothing |
//!
//! Invariants
//! - K175 what is bound names everything that the operation does: two that differ in what they do are bound differently.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};
use symbi_policy::Uid;
use symbi_types::Part;

use crate::exit::Payload;
use crate::journal;
use crate::kernel::Policies;
use crate::monitor::Asked;
use crate::registry::AgentSpec;

/// Makes what a person is shown.
pub(crate) type Showing<'a> = Option<&'a dyn Fn() -> Vec<u8>>;

/// Longest policies whose text a person is shown; of longer ones the names, sizes and the digest.
const POLICIES_BYTES_MAX: usize = 32_768;

/// What is said where an operation cannot be changed, or not so.
pub(crate) const CHANGEABLE: &str = "it can be approved or denied, not changed so: of a tool call the arguments can be changed, \
     of a run its input, of a message `text`, `base64` or `parts`, of a document its `readers`, each as a JSON object";

/// The resource as an approval names it. A document that is to be made has a fresh id each time it is asked for; and a
/// sandbox is named after its agent's instance, which is another after a restart: persons agree to one for `agent`, by name.
pub(crate) fn resource(asked: &Asked<'_>, agent: Option<&str>) -> String {
    let uid = asked.resource.uid();
    match (asked.action.name, agent) {
        ("data.write", _) if uid.type_name() == "Document" => "Document::\"(new)\"".to_owned(),
        ("sandbox.start", Some(name)) => {
            Uid::new("Sandbox", name).map_or_else(|_| uid.to_string(), |named| named.to_string())
        }
        _ => uid.to_string(),
    }
}

/// The one spelling of a content that an approval is bound to, where that is not the text itself. Labels are left out: they
/// grow while it waits, and change what it carries, not what it does.
pub(crate) fn spelling(action: &str, resource: &str, content: &[u8]) -> Option<Vec<u8>> {
    let whole = || serde_json::from_slice::<Json>(content).ok();
    match action {
        "tool.call" => {
            let whole = whole()?;
            let parts = serde_json::from_value::<Vec<Part>>(whole.get("parts")?.clone()).ok()?;
            Some(journal::spelling(resource, whole.get("arguments")?, &parts))
        }
        "message.send" | "message.publish" => {
            let parts = serde_json::from_value::<Vec<Part>>(whole()?.get("parts")?.clone()).ok()?;
            Some(journal::spelling(resource, &json!("parts"), &parts))
        }
        // Which instance it is for, of which runtime, is another after a restart; who it is for stands in the resource.
        "sandbox.start" => {
            let mut whole = whole()?;
            let members = whole.as_object_mut()?;
            for instance in ["agent", "instance"] {
                members.remove(instance);
            }
            serde_json::to_vec(&whole).ok()
        }
        "policy.change" => Some(whole()?.get("after")?.as_str()?.as_bytes().to_vec()), // a digest of all of it
        _ => None,
    }
}

/// The same content as a person wants it changed; none where it cannot be.
pub(crate) fn changed(action: &str, content: &[u8], wanted: &[u8]) -> Option<Vec<u8>> {
    let wanted: Json = serde_json::from_slice(wanted).ok()?;
    let members = wanted.as_object()?;
    let whole = match action {
        "tool.call" => {
            let mut whole: Json = serde_json::from_slice(content).ok()?;
            *whole.get_mut("arguments")? = wanted;
            whole
        }
        "agent.run" => wanted,
        "message.send" | "message.publish" => {
            let (name, value) = members.iter().next().filter(|_| members.len() == 1)?;
            match name.as_str() {
                "text" if value.is_string() => wanted,
                "base64" => payload(&Payload::Bytes(STANDARD.decode(value.as_str()?).ok()?)),
                "parts" => payload(&Payload::Parts(serde_json::from_value(value.clone()).ok()?)),
                _ => return None,
            }
        }
        "data.write" => {
            let readers: Vec<String> =
                serde_json::from_value(wanted.get("readers").filter(|_| members.len() == 1)?.clone()).ok()?;
            let mut whole: Json = serde_json::from_slice(content).ok()?;
            *whole.get_mut("readers")? = json!(readers);
            whole
        }
        _ => return None,
    };
    serde_json::to_vec(&whole).ok()
}

fn payload(payload: &Payload) -> Json {
    match payload {
        Payload::Parts(parts) => json!({ "parts": parts }),
        Payload::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => json!({ "text": text }),
            Err(_) => json!({ "base64": STANDARD.encode(bytes) }),
        },
    }
}

fn text(content: &Json) -> Vec<u8> {
    content.to_string().into_bytes()
}

/// Of a message.
pub(crate) fn of_message(carried: &Payload) -> Vec<u8> {
    text(&payload(carried))
}

/// Of passages that are brought in, or of the document that is made of them. `passages`: texts, or the digests of those that
/// are withheld.
pub(crate) fn of_document(
    title: &str,
    readers: Option<&[String]>,
    passages: &[symbi_store::Passage],
) -> Vec<u8> {
    let passages: Vec<Json> = passages
        .iter()
        .map(|passage| match passage {
            symbi_store::Passage::Text(text) => json!(text),
            symbi_store::Passage::Withheld { digest } => json!({ "withheld": digest }),
        })
        .collect();
    let shown = match readers {
        Some(readers) => json!({ "title": title, "readers": readers, "passages": passages }),
        None => json!({ "title": title, "passages": passages }),
    };
    text(&shown)
}

/// Of `count` agents that are to be made.
pub(crate) fn of_agents(spec: &AgentSpec, count: usize) -> Vec<u8> {
    let limits = &spec.limits;
    let supervision = spec.supervision.as_ref().map(
        |asked| json!({ "retries": asked.retries, "restarts": asked.restarts, "window_ms": asked.window_ms }),
    );
    text(&json!({
        "name": spec.name, "kind": spec.kind, "count": count, "tenant": spec.tenant,
        "isolation": if spec.in_process { "in_process" } else { "sandbox" },
        "tier": spec.tier.as_str(), "assessed_tier": spec.assessed.map(symbi_types::SecurityTier::as_str),
        "capabilities": spec.capabilities, "labels": spec.labels, "supervision": supervision,
        "limits": {
            "memory_mb": limits.memory_mb, "cpu_millicores": limits.cpu_millicores,
            "disk_io_mbps": limits.disk_io_mbps, "network_io_mbps": limits.network_io_mbps,
            "connections": limits.connections, "execution_timeout_ms": limits.execution_timeout_ms,
        },
    }))
}

/// Of other policies: all of their text, where it can be shown, and their names otherwise.
pub(crate) fn of_policies(before: &str, after: &str, policies: &Policies) -> Vec<u8> {
    let whole = policies.sources.iter().map(|source| source.text.len()).sum::<usize>() <= POLICIES_BYTES_MAX;
    let sources: Vec<Json> = policies
        .sources
        .iter()
        .map(|source| {
            let content = if whole { json!(source.text) } else { json!({ "bytes": source.text.len() }) };
            json!({ "name": source.name, "text": content })
        })
        .collect();
    let counters: Vec<&str> = policies.counters.iter().map(|counter| counter.name.as_str()).collect();
    text(&json!({ "before": before, "after": after, "sources": sources, "counters": counters }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(action: &str, content: &str, wanted: &str) -> Option<Json> {
        let text = changed(action, content.as_bytes(), wanted.as_bytes())?;
        Some(serde_json::from_slice(&text).unwrap())
    }

    #[test]
    fn what_cannot_be_changed_is_refused_whole() {
        let message = r#"{"text":"hello"}"#;
        assert_eq!(change("message.send", message, r#"{"text":"bye"}"#), Some(json!({"text": "bye"})));
        for wanted in [
            r#"{"text":1}"#,
            r#"{"text":"a","base64":""}"#,
            r#"{"subject":"a"}"#,
            "[]",
            "{}",
            "{",
            r#"{"base64":"!"}"#,
            r#"{"parts":[{"labels":[]}]}"#,
        ] {
            assert_eq!(change("message.send", message, wanted), None, "{wanted}");
        }
        assert_eq!(change("agent.create", "{}", "{}"), None);
        assert_eq!(change("policy.change", "{}", "{}"), None);
        let document = r#"{"passages":["p"],"readers":["a"],"title":"t"}"#;
        let fewer = json!({"passages": ["p"], "readers": [], "title": "t"});
        assert_eq!(change("data.write", document, r#"{"readers":[]}"#), Some(fewer));
        assert_eq!(change("data.write", document, r#"{"title":"x"}"#), None);
        assert_eq!(change("data.write", r#"{"passages":[],"title":"t"}"#, r#"{"readers":[]}"#), None);
    }

    #[test]
    fn k175_of_a_sandbox_everything_is_bound_but_which_instance_it_is() {
        let spelled = |text: &str| spelling("sandbox.start", "Sandbox::\"a\"", text.as_bytes()).unwrap();
        let one = spelled(r#"{"agent":"1","argv":["x"],"instance":"2","mounts":[]}"#);
        assert_eq!(one, spelled(r#"{"agent":"3","argv":["x"],"instance":"4","mounts":[]}"#));
        assert_ne!(one, spelled(r#"{"agent":"1","argv":["y"],"instance":"2","mounts":[]}"#));
        assert_ne!(one, spelled(r#"{"agent":"1","argv":["x"],"instance":"2","mounts":[{"source":"/"}]}"#));
        assert_eq!(spelling("sandbox.start", "Sandbox::\"a\"", b"not JSON"), None, "then the very bytes are");
    }

    #[test]
    fn k175_labels_are_not_bound_and_everything_else_is() {
        let spelled = |content: &Payload| {
            let shown = of_message(content);
            spelling("message.send", "Agent::\"b\"", &shown).unwrap_or(shown)
        };
        let part = |text: &str, labels: &[&str]| Part {
            text: text.to_owned(),
            labels: labels.iter().map(|label| label.parse().unwrap()).collect(),
            source: None,
        };
        let one = spelled(&Payload::Parts(vec![part("a", &[]), part("b", &[])]));
        assert_eq!(one, spelled(&Payload::Parts(vec![part("a", &["phi"]), part("b", &[])])));
        let others = [
            Payload::Parts(vec![part("ab", &[])]),
            Payload::Parts(vec![part("b", &[]), part("a", &[])]),
            Payload::Bytes(b"ab".to_vec()),
            Payload::Bytes(vec![0xff]),
        ];
        let spelled: Vec<Vec<u8>> = others.iter().map(spelled).chain([one]).collect();
        for (at, one) in spelled.iter().enumerate() {
            assert!(!spelled[..at].contains(one), "K175: {at}");
        }
    }
}

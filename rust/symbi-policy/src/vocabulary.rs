//! The entities and actions of symbi, by name, with the attributes that the schema asks for.
//!
//! Why: an attribute that the kernel forgets makes every rule that reads it fail; here each entity has one
//! constructor that cannot forget one.

use symbi_types::{LabelSet, SecurityTier};

use crate::entity::{Entity, EntityError, Uid};
use crate::value::Value;

/// Every action of the schema.
pub const ACTIONS: [&str; 22] = [
    "agent.create",
    "agent.run",
    "agent.suspend",
    "agent.resume",
    "agent.stop",
    "run.cancel",
    "message.send",
    "message.publish",
    "message.subscribe",
    "message.read",
    "limit.breach",
    "tool.call",
    "data.read",
    "data.write",
    "data.search",
    "data.erase",
    "sandbox.start",
    "operation.approve",
    "operation.resolve",
    "policy.change",
    "key.change",
    "label.declassify",
];

/// Actions that somebody may expect and nothing asks: a rule about one would hold nobody, so it is refused, with what to
/// write instead.
pub(crate) const UNASKED: [(&str, &str); 3] = [
    (
        "net.connect",
        "nothing asks `net.connect`: no sandbox has a network, and an agent reaches one through tools alone. Write a rule for \
         `tool.call`: of an argument `url` that is declared as an address it sees \
         `context.call.getTag(\"url\")` and `context.call.getTag(\"url.reach\")`",
    ),
    (
        "resource.allocate",
        "nothing asks `resource.allocate`: write a rule for `agent.run`, whose context has what the run will hold, such as \
         `context.memory_mb`",
    ),
    (
        "agent.configure",
        "nothing asks `agent.configure`: an agent is decided on whole at `agent.create`, and not changed after that",
    ),
];

/// What to write instead of an action that nothing asks.
pub(crate) fn instead_of(action: &str) -> Option<&'static str> {
    UNASKED.iter().find(|(unasked, _)| *unasked == action).map(|(_, instead)| *instead)
}

/// What policies see of an agent.
#[derive(Clone, Debug)]
pub struct AgentFacts<'a> {
    /// The declared name: also the entity's id.
    pub name: &'a str,
    /// The instance's id, as text.
    pub instance: &'a str,
    /// Where it runs.
    pub tier: SecurityTier,
    /// Whether it runs in the host's own process.
    pub in_process: bool,
    /// `python`, `program`, `model`, `dsl`.
    pub kind: &'a str,
    /// What it was declared to be able to do.
    pub capabilities: &'a [String],
    /// On whose account its runs are.
    pub tenant: &'a str,
    /// The labels of what it has read.
    pub labels: &'a LabelSet,
}

/// `Agent::"<name>"`.
///
/// # Errors
/// The name is too long.
pub fn agent(facts: &AgentFacts<'_>) -> Result<Entity, EntityError> {
    let isolation = if facts.in_process { "in_process" } else { "sandbox" };
    let attributes = [
        ("name", Value::String(facts.name.to_owned())),
        ("instance", Value::String(facts.instance.to_owned())),
        ("tier", Value::Long(i64::from(facts.tier.number()))),
        ("isolation", Value::String(isolation.to_owned())),
        ("kind", Value::String(facts.kind.to_owned())),
        ("tenant", Value::String(facts.tenant.to_owned())),
        ("capabilities", Value::strings(facts.capabilities)),
        ("labels", Value::labels(facts.labels)),
    ];
    Entity::new("Agent", facts.name, attributes, [])
}

/// `Host::"host"`: the program that embeds the runtime.
///
/// # Errors
/// None in practice; kept so that all constructors read alike.
pub fn host() -> Result<Entity, EntityError> {
    named("Host", "host")
}

/// `Operator::"<user id>"`.
///
/// # Errors
/// None in practice; kept so that all constructors read alike.
pub fn operator(user_id: u32) -> Result<Entity, EntityError> {
    named("Operator", &user_id.to_string())
}

/// `Tool::"<name>" in ToolServer::"<server>"`; `effects` is `read`, `write` or `external`.
///
/// # Errors
/// The name is too long.
pub fn tool(name: &str, server: &str, effects: &str, risk: &str) -> Result<Entity, EntityError> {
    let attributes =
        [("effects", Value::String(effects.to_owned())), ("risk", Value::String(risk.to_owned()))];
    Entity::new("Tool", name, attributes, [Uid::new("ToolServer", server)?])
}

/// `Call::"<operation>"` with the call's declared attributes as tags; put it into the request's entities and, as
/// [`Value::Entity`], into `context.call`.
///
/// # Errors
/// The id is too long.
pub fn call<'a>(
    operation: &str,
    declared: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Entity, EntityError> {
    let tags = declared.into_iter().map(|(name, value)| (name, Value::String(value.to_owned())));
    Entity::with_tags("Call", operation, Vec::<(&str, Value)>::new(), [], tags)
}

/// `Document::"<id>" in Collection::"<collection>"`; `readers` are names of agents.
///
/// # Errors
/// The id is too long.
pub fn document(
    id: &str,
    collection: &str,
    labels: &LabelSet,
    owner: &str,
    readers: &[String],
) -> Result<Entity, EntityError> {
    let attributes = [
        ("labels", Value::labels(labels)),
        ("owner", Value::String(owner.to_owned())),
        ("readers", Value::strings(readers)),
    ];
    Entity::new("Document", id, attributes, [Uid::new("Collection", collection)?])
}

/// `Sandbox::"<id>"`.
///
/// # Errors
/// The id is too long.
pub fn sandbox(id: &str, tier: SecurityTier, network: bool, writable: bool) -> Result<Entity, EntityError> {
    let attributes = [
        ("tier", Value::Long(i64::from(tier.number()))),
        ("network", Value::Bool(network)),
        ("writable", Value::Bool(writable)),
    ];
    Entity::new("Sandbox", id, attributes, [])
}

/// `Topic::"orders.eu.new"`, in `Topic::"orders.eu"` and in `Topic::"orders"`; likewise for a pattern, as far as its levels
/// are names: `Topic::"orders.*"` is in `Topic::"orders"`.
///
/// # Errors
/// The name is too long.
pub fn topic(name: &str) -> Result<Entity, EntityError> {
    let named = name.split('.').take_while(|level| *level != "*" && *level != ">").count();
    let levels = name.split('.').count();
    let ends = name.match_indices('.').map(|(at, _)| at).take(named.min(levels - 1));
    let above = ends.filter_map(|end| name.get(..end)).map(|prefix| Uid::new("Topic", prefix));
    Entity::new("Topic", name, Vec::<(&str, Value)>::new(), above.collect::<Result<Vec<_>, _>>()?)
}

/// An entity with no attributes: `Collection`, `Runtime`, `PolicySet`, `Key`, `ToolServer`.
///
/// # Errors
/// The type is not a name, or the id is too long.
pub fn named(type_name: &str, id: &str) -> Result<Entity, EntityError> {
    Ok(Entity::bare(Uid::new(type_name, id)?))
}

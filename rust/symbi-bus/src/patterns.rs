//! Who hears of a topic: patterns of topics, in a trie.
//!
//! A topic is one to many levels joined by dots, `orders.eu.new`. In a pattern `*` stands for any one level, and `>` at
//! the end for one or more: `orders.*.new`, `orders.>`. The rules are those of NATS, so that nobody learns new ones.
//! Not here: whether a subscriber may hear (the kernel asks policy, for the very topic), mailboxes, keys.
//!
//! Invariants
//! - PT1 [`Routes::of`] names exactly those whose pattern matches, each once, in the order of their ids.
//! - PT2 what is removed leaves nothing behind: without subscriptions the trie has one node.
//! - PT3 a search visits each node at most once: its cost is bounded by the subscriptions there are.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use symbi_types::AgentId;
use thiserror::Error;

/// Bytes of a topic or pattern.
pub const TOPIC_BYTES_MAX: usize = 255;
/// Subscriptions of a bus.
pub const SUBSCRIPTIONS_MAX: usize = 65_536;

/// A text that is no topic, or no pattern of topics.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{text}` is not a topic: 1 to {TOPIC_BYTES_MAX} bytes, levels of a-z, A-Z, 0-9, `_`, `-` joined by dots{}",
    if *.pattern { "; a whole level may be `*`, the last one `>`" } else { "" })]
pub struct TopicError {
    /// What was given, cut to 64 characters.
    pub text: String,
    /// Whether a pattern would have been taken.
    pub pattern: bool,
}

fn is_level(level: &str) -> bool {
    !level.is_empty() && level.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

/// Checks the name of a topic.
///
/// # Errors
/// It is none.
pub fn check_topic(text: &str) -> Result<(), TopicError> {
    if text.len() <= TOPIC_BYTES_MAX && text.split('.').all(is_level) {
        return Ok(());
    }
    Err(TopicError { text: text.chars().take(64).collect(), pattern: false })
}

/// Which topics somebody wants to hear of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern(Arc<str>);

impl Pattern {
    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn levels(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }

    /// Whether it takes this topic. Cost: proportional to the topic.
    #[must_use]
    pub fn takes(&self, topic: &str) -> bool {
        let mut wanted = self.levels();
        let mut levels = topic.split('.');
        loop {
            match (wanted.next(), levels.next()) {
                (Some(">"), Some(_)) | (None, None) => return true,
                (Some("*"), Some(_)) => {}
                (Some(want), Some(level)) if want == level => {}
                _ => return false,
            }
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Pattern {
    type Err = TopicError;
    fn from_str(text: &str) -> Result<Self, TopicError> {
        let mut levels = text.split('.').peekable();
        let mut good = text.len() <= TOPIC_BYTES_MAX;
        while let Some(level) = levels.next() {
            good &= match level {
                "*" => true,
                ">" => levels.peek().is_none(),
                level => is_level(level),
            };
        }
        if good {
            Ok(Self(text.into()))
        } else {
            Err(TopicError { text: text.chars().take(64).collect(), pattern: true })
        }
    }
}

const ROOT: usize = 0;

#[derive(Debug, Default)]
struct Node {
    levels: HashMap<Box<str>, usize>,
    any: Option<usize>,
    /// Patterns that end here.
    here: Vec<AgentId>,
    /// Patterns that end here with `>`.
    rest: Vec<AgentId>,
}

impl Node {
    fn is_bare(&self) -> bool {
        self.levels.is_empty() && self.any.is_none() && self.here.is_empty() && self.rest.is_empty()
    }

    fn child(&self, level: &str) -> Option<usize> {
        if level == "*" { self.any } else { self.levels.get(level).copied() }
    }
}

/// All patterns. Subscribers are endpoints of the bus.
#[derive(Debug)]
pub struct Routes {
    nodes: Vec<Node>,
    free: Vec<usize>,
    count: usize,
}

impl Default for Routes {
    fn default() -> Self {
        Self { nodes: vec![Node::default()], free: Vec::new(), count: 0 }
    }
}

impl Routes {
    /// How many subscriptions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds a subscriber; false when there are [`SUBSCRIPTIONS_MAX`] already, and nothing was added.
    #[must_use]
    pub fn add(&mut self, subscriber: AgentId, pattern: &Pattern) -> bool {
        if SUBSCRIPTIONS_MAX <= self.count {
            return false;
        }
        let mut at = ROOT;
        for level in pattern.levels() {
            if level == ">" {
                self.count += 1;
                self.node(at).rest.push(subscriber);
                return true;
            }
            at = match self.nodes.get(at).and_then(|node| node.child(level)) {
                Some(child) => child,
                None => self.grow(at, level),
            };
        }
        self.count += 1;
        self.node(at).here.push(subscriber);
        true
    }

    /// Takes a subscriber out; whether it was there.
    pub fn remove(&mut self, subscriber: AgentId, pattern: &Pattern) -> bool {
        let mut way = vec![(ROOT, "")];
        let mut at = ROOT;
        let mut rest = false;
        for level in pattern.levels() {
            if level == ">" {
                rest = true;
                break;
            }
            let Some(child) = self.nodes.get(at).and_then(|node| node.child(level)) else { return false };
            at = child;
            way.push((at, level));
        }
        let node = self.node(at);
        let list = if rest { &mut node.rest } else { &mut node.here };
        let Some(place) = list.iter().position(|one| *one == subscriber) else { return false };
        list.swap_remove(place);
        self.count -= 1;
        self.prune(&way);
        true
    }

    /// The subscribers whose pattern takes this topic (PT1, PT3).
    #[must_use]
    pub fn of(&self, topic: &str) -> Vec<AgentId> {
        let mut found = Vec::new();
        let mut front = vec![ROOT];
        let mut next = Vec::new();
        for level in topic.split('.') {
            for node in front.iter().filter_map(|at| self.nodes.get(*at)) {
                found.extend_from_slice(&node.rest);
                next.extend(node.levels.get(level).copied());
                next.extend(node.any);
            }
            std::mem::swap(&mut front, &mut next);
            next.clear();
            if front.is_empty() {
                break;
            }
        }
        for node in front.iter().filter_map(|at| self.nodes.get(*at)) {
            found.extend_from_slice(&node.here);
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    #[expect(clippy::indexing_slicing, reason = "positions come from this trie and are never given out")]
    fn node(&mut self, at: usize) -> &mut Node {
        &mut self.nodes[at]
    }

    fn grow(&mut self, at: usize, level: &str) -> usize {
        let child = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(Node::default());
            self.nodes.len() - 1
        });
        let node = self.node(at);
        if level == "*" {
            node.any = Some(child);
        } else {
            node.levels.insert(level.into(), child);
        }
        child
    }

    /// PT2. `way` leads from the root to a node that may be bare now.
    fn prune(&mut self, way: &[(usize, &str)]) {
        for pair in way.windows(2).rev() {
            let [(parent, _), (child, level)] = pair else { return };
            if !self.node(*child).is_bare() {
                return;
            }
            *self.node(*child) = Node::default();
            let node = self.node(*parent);
            if *level == "*" {
                node.any = None;
            } else {
                node.levels.remove(*level);
            }
            self.free.push(*child);
        }
        if self.free.len() + 1 == self.nodes.len() {
            *self =
                Self { count: self.count, nodes: vec![std::mem::take(self.node(ROOT))], free: Vec::new() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use symbi_types::SystemEntropy;

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap()
    }

    #[test]
    fn a_text_that_is_no_topic_is_refused() {
        let long = "a".repeat(TOPIC_BYTES_MAX + 1);
        for wrong in ["", ".", "a.", ".a", "a..b", "a b", "a.*", ">", "ä", "a\0", "a/b", &long] {
            assert!(check_topic(wrong).is_err(), "{wrong}");
        }
        for good in ["a", "a.b-c._9", &long[1..]] {
            assert!(check_topic(good).is_ok(), "{good}");
            assert!(good.parse::<Pattern>().is_ok(), "{good}");
        }
        for wrong in ["", "a.>.b", ">.a", "a*", "a.**", "a.>x", "*."] {
            assert!(wrong.parse::<Pattern>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_star_is_one_level_and_the_rest_is_one_or_more() {
        for (text, topic, takes) in [
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("a.>", "a", false),
            ("a.>", "a.b", true),
            ("a.>", "a.b.c", true),
            (">", "a", true),
            ("*.b", "a.b", true),
            ("*", "a.b", false),
            ("a", "a", true),
            ("a", "b", false),
        ] {
            assert_eq!(pattern(text).takes(topic), takes, "{text} {topic}");
        }
    }

    fn level() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["a", "b", "c"])
    }

    fn wanted() -> impl Strategy<Value = String> {
        let levels = prop::collection::vec(prop_oneof![3 => level(), 1 => Just("*")], 1..5);
        (levels, any::<bool>()).prop_map(|(levels, rest)| {
            let text = levels.join(".");
            if rest { format!("{text}.>") } else { text }
        })
    }

    #[test]
    fn pt3_a_search_visits_no_more_nodes_than_there_are() {
        let mut routes = Routes::default();
        let agent = AgentId::random(&SystemEntropy);
        for levels in 1..=120 {
            assert!(routes.add(agent, &pattern(&vec!["*"; levels].join("."))));
        }
        assert_eq!(routes.of(&vec!["a"; 120].join(".")), [agent], "PT3: one way, not 2^120");
    }

    proptest! {
        /// PT1, PT2 against a plain list.
        #[test]
        fn pt1_pt2_the_trie_says_what_a_list_of_patterns_says(
            steps in prop::collection::vec((wanted(), 0..4usize, any::<bool>()), 1..80),
            topics in prop::collection::vec(prop::collection::vec(level(), 1..6), 1..20),
        ) {
            let agents: Vec<AgentId> = (0..4).map(|_| AgentId::random(&SystemEntropy)).collect();
            let (mut routes, mut list) = (Routes::default(), Vec::<(AgentId, Pattern)>::new());
            for (text, agent, adds) in steps {
                let (agent, pattern) = (agents[agent], pattern(&text));
                if adds {
                    prop_assert!(routes.add(agent, &pattern));
                    list.push((agent, pattern));
                } else {
                    let place = list.iter().position(|one| *one == (agent, pattern.clone()));
                    prop_assert_eq!(routes.remove(agent, &pattern), place.is_some());
                    place.map(|place| list.remove(place));
                }
                prop_assert_eq!(routes.len(), list.len());
            }
            for topic in topics {
                let topic = topic.join(".");
                let mut told: Vec<AgentId> =
                    list.iter().filter(|(_, pattern)| pattern.takes(&topic)).map(|(agent, _)| *agent).collect();
                told.sort_unstable();
                told.dedup();
                prop_assert_eq!(routes.of(&topic), told);
            }
            for (agent, pattern) in list.drain(..) {
                prop_assert!(routes.remove(agent, &pattern));
            }
            prop_assert!(routes.nodes.len() == 1 && routes.free.is_empty() && routes.is_empty(), "PT2");
        }
    }
}

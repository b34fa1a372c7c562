//! Who asks.

use std::fmt;

use symbi_types::AgentId;

/// The one on whose behalf an operation is asked for. It is given by the channel (a handle, a pipe, a socket's
/// peer credentials), never by a name in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    /// An agent of this runtime.
    Agent(AgentId),
    /// The program that embeds the runtime.
    Host,
    /// A person or script with this user id, through the control socket.
    Operator(u32),
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(id) => write!(f, "agent:{id}"),
            Self::Host => f.write_str("host"),
            Self::Operator(uid) => write!(f, "operator:{uid}"),
        }
    }
}

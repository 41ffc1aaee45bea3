//! Pure. Listeners: where the broker listens, and where clients are told to find it.

use std::fmt;
use std::sync::Arc;

/// How a listener is secured (`listener.security.protocol.map`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum SecurityProtocol {
    /// Neither encryption nor authentication.
    Plaintext,
    /// TLS.
    Ssl,
    /// SASL without encryption.
    SaslPlaintext,
    /// SASL over TLS.
    SaslSsl,
}

impl SecurityProtocol {
    /// The name that Kafka gives the protocol.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        }
    }

    /// The protocol of a name, in any case, as Kafka reads it.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Plaintext, Self::Ssl, Self::SaslPlaintext, Self::SaslSsl]
            .into_iter()
            .find(|protocol| protocol.name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for SecurityProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One entry of `listeners`: a socket to open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listener {
    /// The listener's name, upper-case.
    pub name: Arc<str>,
    /// How it is secured.
    pub protocol: SecurityProtocol,
    /// The address or name to bind; `None` is every interface.
    pub host: Option<String>,
    /// The port; 0 lets the system choose.
    pub port: u16,
}

/// One entry of `advertised.listeners`: what Metadata answers to a client of that listener.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// The name of the listener that it belongs to, upper-case.
    pub listener_name: Arc<str>,
    /// The host that clients connect to.
    pub host: String,
    /// The port that clients connect to; 0 stands for the port that the listener was given.
    pub port: u16,
}

//! Pure. Listeners: where the broker listens, and where clients are told to find it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::broker::Machine;
use super::settings::{Origin, Settings};
use super::values::Values;

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

/// What the listener keys come to together.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Network {
    pub(super) listeners: Vec<Listener>,
    pub(super) advertised: Vec<Endpoint>,
}

/// Which protocol each listener name stands for.
type ProtocolMap = BTreeMap<String, SecurityProtocol>;

/// Reads all listener keys and checks them against each other, as Kafka's `KafkaConfig` does and in its words.
pub(super) fn resolve(values: &Values, settings: &Settings, machine: &Machine) -> Result<Network, Vec<String>> {
    let one = |sentence: String| vec![sentence];
    let controllers: Vec<String> = values.read("controller.listener.names");
    let texts = listener_texts(values, settings);
    let protocols = protocol_map(values, &texts, &controllers).map_err(one)?;
    let all = parse_list(&texts, &protocols).map_err(one)?;
    check_distinct_ports(&all, &texts).map_err(one)?;
    let advertised = match values.get("advertised.listeners") {
        None => all.clone(),
        Some(_) => parse_list(&values.read::<Vec<String>>("advertised.listeners"), &protocols).map_err(one)?,
    };
    let is_controller = |listener: &Listener| controllers.iter().any(|name| **name == *listener.name);
    let inter_broker = inter_broker(values, &protocols).map_err(one)?;
    let faults = cross_checks(&all, &advertised, &controllers, &inter_broker, settings);
    if !faults.is_empty() {
        return Err(faults);
    }
    let network = Network {
        listeners: all.into_iter().filter(|listener| !is_controller(listener)).collect(),
        advertised: advertised.into_iter().filter(|l| !is_controller(l)).map(|l| endpoint(l, machine)).collect(),
    };
    Ok(network)
}

fn endpoint(listener: Listener, machine: &Machine) -> Endpoint {
    let host = listener.host.unwrap_or_else(|| machine.hostname.clone());
    Endpoint { listener_name: listener.name, host, port: listener.port }
}

/// The texts of `listeners`. Unset, they follow from what is advertised: Kafka's images listen on every interface at
/// the advertised ports, Kafka itself on every interface at 9092. With neither key set, only this machine is served.
fn listener_texts(values: &Values, settings: &Settings) -> Vec<String> {
    if values.is_set("listeners") {
        return values.read("listeners");
    }
    match settings.get("advertised.listeners") {
        None => values.read("listeners"),
        Some(setting) if setting.origin == Origin::Environment => {
            let advertised: Vec<String> = values.read("advertised.listeners");
            advertised.iter().map(|text| on_every_interface(text)).collect()
        }
        Some(_) => vec!["PLAINTEXT://:9092".to_owned()],
    }
}

fn on_every_interface(text: &str) -> String {
    match (text.split_once("://"), text.rsplit_once(':')) {
        (Some((name, _)), Some((_, port))) => format!("{name}://:{port}"),
        _ => text.to_owned(),
    }
}

/// `listener.security.protocol.map`; left at its default, controller listeners are plaintext unless something is
/// secured (`effectiveListenerSecurityProtocolMap`).
fn protocol_map(values: &Values, listeners: &[String], controllers: &[String]) -> Result<ProtocolMap, String> {
    const KEY: &str = "listener.security.protocol.map";
    let text: String = values.read(KEY);
    let mut map = ProtocolMap::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, protocol) = pair
            .rsplit_once(':')
            .ok_or_else(|| format!("Error parsing configuration property '{KEY}': `{pair}` is not NAME:PROTOCOL"))?;
        let known = SecurityProtocol::from_name(protocol.trim())
            .ok_or_else(|| format!("Invalid security protocol `{}` defined in {KEY}", protocol.trim()))?;
        map.insert(name.trim().to_uppercase(), known);
    }
    let secured = |name: &str| matches!(name, "SSL" | "SASL_SSL" | "SASL_PLAINTEXT");
    let names = listeners.iter().map(|text| listener_name(text).unwrap_or_default());
    if !values.is_set(KEY) && !names.chain(controllers.iter().cloned()).any(|name| secured(&name)) {
        for name in controllers {
            map.entry(name.clone()).or_insert(SecurityProtocol::Plaintext);
        }
    }
    Ok(map)
}

fn listener_name(text: &str) -> Result<String, String> {
    match text.split_once("://") {
        Some((name, _)) => Ok(name.to_uppercase()),
        None => Err(format!("Unable to parse a listener name from {text}")),
    }
}

fn parse_list(texts: &[String], protocols: &ProtocolMap) -> Result<Vec<Listener>, String> {
    let all = format!("[{}]", texts.join(", "));
    let fail = |why: String| format!("Error creating broker listeners from '{all}': {why}");
    let mut listeners: Vec<Listener> = Vec::new();
    for text in texts {
        let name = listener_name(text)?;
        let Some(protocol) = protocols.get(&name) else {
            return Err(fail(format!("No security protocol defined for listener {name}")));
        };
        let (host, port) = host_and_port(text).map_err(&fail)?;
        if listeners.iter().any(|known| *known.name == *name) {
            return Err(fail(format!("Each listener must have a different name, listeners: {all}")));
        }
        listeners.push(Listener { name: name.into(), protocol: *protocol, host, port });
    }
    Ok(listeners)
}

/// The part after `://`: a name, an IPv4 address or a bracketed IPv6 address, which may be left out, and a port.
fn host_and_port(text: &str) -> Result<(Option<String>, u16), String> {
    let broken = || format!("Unable to parse {text} to a broker endpoint");
    let (_, rest) = text.split_once("://").ok_or_else(broken)?;
    let (host, port) = rest.rsplit_once(':').ok_or_else(broken)?;
    let host = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
    let plain = |c: char| c.is_ascii_alphanumeric() || "-%._:".contains(c);
    if !host.chars().all(plain) || port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err(broken());
    }
    let number = port.parse().map_err(|_| format!("the port of {text} is not between 0 and 65535"))?;
    Ok(((!host.is_empty()).then(|| host.to_owned()), number))
}

fn check_distinct_ports(listeners: &[Listener], texts: &[String]) -> Result<(), String> {
    let all = format!("[{}]", texts.join(", "));
    let fail = |why: String| Err(format!("Error creating broker listeners from '{all}': {why}"));
    let mut by_port: BTreeMap<u16, Vec<Option<IpAddr>>> = BTreeMap::new();
    for listener in listeners.iter().filter(|listener| listener.port != 0) {
        let address = listener.host.as_deref().and_then(|host| host.parse().ok());
        by_port.entry(listener.port).or_default().push(address);
    }
    for (port, addresses) in by_port.into_iter().filter(|(_, addresses)| addresses.len() > 1) {
        match addresses[..] {
            [Some(first), Some(second)] if first.is_ipv4() != second.is_ipv4() => {}
            [Some(_), Some(_)] => {
                return fail(format!(
                    "If you have two listeners on the same port then one needs to be IPv4 and the other IPv6, \
                     listeners: {all}, port: {port}"
                ));
            }
            _ => return fail(format!("Each listener must have a different port, listeners: {all}")),
        }
    }
    Ok(())
}

fn inter_broker(values: &Values, protocols: &ProtocolMap) -> Result<String, String> {
    let Some(name) = values.read::<Option<String>>("inter.broker.listener.name") else {
        return Ok(values.read("security.inter.broker.protocol"));
    };
    if values.is_set("security.inter.broker.protocol") {
        return Err("Only one of inter.broker.listener.name and security.inter.broker.protocol should be set.".into());
    }
    let name = name.to_uppercase();
    if !protocols.contains_key(&name) {
        return Err(format!(
            "Listener with name {name} defined in inter.broker.listener.name not found in \
             listener.security.protocol.map."
        ));
    }
    Ok(name)
}

fn cross_checks(
    all: &[Listener],
    advertised: &[Listener],
    controllers: &[String],
    inter_broker: &str,
    settings: &Settings,
) -> Vec<String> {
    let is_controller = |name: &str| controllers.iter().any(|known| known == name);
    let listening: Vec<&str> = all.iter().map(|listener| &*listener.name).collect();
    let told: Vec<&str> = advertised.iter().map(|l| &*l.name).filter(|name| !is_controller(name)).collect();
    let mut faults = Vec::new();
    // Images derive `listeners` from what is advertised, which leaves the controller out: that is fine.
    let named = controllers.iter().all(|name| listening.contains(&name.as_str()));
    if settings.get("listeners").is_some() && !named {
        faults.push(
            "controller.listener.names must only contain values appearing in the 'listeners' configuration when \
             running the KRaft controller role"
                .to_owned(),
        );
    }
    if told.is_empty() {
        faults.push(
            "There must be at least one broker advertised listener. Perhaps all listeners appear in \
             controller.listener.names?"
                .to_owned(),
        );
    } else if !told.contains(&inter_broker) {
        faults.push(format!(
            "inter.broker.listener.name must be a listener name defined in advertised.listeners. The valid options \
             based on currently configured listeners are {}",
            told.join(",")
        ));
    } else if !told.iter().all(|name| listening.contains(name)) {
        faults.push(format!(
            "advertised.listeners listener names must be equal to or a subset of the ones defined in listeners. \
             Found {}. The valid options based on the current configuration are {}",
            told.join(","),
            listening.join(",")
        ));
    }
    if advertised.iter().any(|listener| listener.host.as_deref() == Some("0.0.0.0")) {
        faults.push(
            "advertised.listeners cannot use the nonroutable meta-address 0.0.0.0. Use a routable IP address."
                .to_owned(),
        );
    }
    let secured = all.iter().filter(|l| !is_controller(&l.name) && l.protocol != SecurityProtocol::Plaintext);
    faults
        .extend(secured.map(|l| format!("listener {} wants {}, which this version cannot serve", l.name, l.protocol)));
    faults
}

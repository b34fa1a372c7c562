//! Addresses in one spelling, before a policy looks at them.
//!
//! Why: `0x7f.1`, `127.0.0.1`, `localhost.` and `[::ffff:7f00:1]` are one place. A policy that compares text must see one
//! text, and whoever connects must connect to what was decided.
//! Not here: resolving names, connecting. Who does resolves once, asks [`reach`] of every answer, and connects to that
//! answer, so that a name that resolves differently a second time gains nothing. A redirect is a new address: decided anew.
//!
//! Invariants
//! - AD1 the canonical text of an accepted address is accepted, and is its own canonical text.
//! - AD2 what two parsers could read differently (user info, backslashes, percent signs, non-ASCII, zones) is refused.
//! - AD3 an address that embeds another (mapped, translated, 6to4) reaches as far as the one it embeds.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr}; // numbers alone: nothing is reached from here
use std::fmt;

/// Longest address, in bytes: a URL's path may be long.
pub const ADDRESS_BYTES_MAX: usize = 8_192;
/// Longest name of a host (RFC 1035).
const HOST_BYTES_MAX: usize = 253;

/// Why an address is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Empty, or too long.
    #[error("an address has 1 to 8192 bytes")]
    Length,
    /// A character that another reader could take otherwise.
    #[error("an address holds printable ASCII alone, and no backslash; write other names as `xn--`")]
    Character,
    /// Not `http` or `https`.
    #[error("the scheme is `http` or `https`")]
    Scheme,
    /// `user@host`.
    #[error("user and password do not stand in an address")]
    UserInfo,
    /// Not a name or a number.
    #[error("the host is not a name, an IPv4 or a bracketed IPv6 address")]
    Host,
    /// Not a port.
    #[error("the port is a number from 1 to 65535")]
    Port,
}

/// How far an address reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// The internet.
    Public,
    /// This machine: loopback, unspecified, `localhost`.
    Machine,
    /// Where clouds keep credentials.
    Metadata,
    /// This network: private, link-local, shared, names without a dot.
    Local,
    /// Nowhere that may be meant: documentation, multicast, reserved.
    Reserved,
}

impl Reach {
    /// As policies and people see it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Machine => "machine",
            Self::Metadata => "metadata",
            Self::Local => "local",
            Self::Reserved => "reserved",
        }
    }
}

/// The host of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// In lower case, without a final dot.
    Name(String),
    /// A number, in its shortest spelling; a mapped IPv4 address is one.
    Ip(IpAddr),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

/// A canonical address. Its text is `host:port`: the id of its `Network` entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    host: Host,
    port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Address {
    /// Reads `http://host[:port]/…`, `https://…`, or `host:port`.
    ///
    /// # Errors
    /// [`AddressError`] (AD2).
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() || text.len() > ADDRESS_BYTES_MAX {
            return Err(AddressError::Length);
        }
        if !text.bytes().all(|byte| (0x21..0x7f).contains(&byte) && byte != b'\\') {
            return Err(AddressError::Character);
        }
        let (authority, default) = match text.split_once("://") {
            Some((scheme, rest)) => {
                let default = match scheme.to_ascii_lowercase().as_str() {
                    "http" => 80,
                    "https" => 443,
                    _ => return Err(AddressError::Scheme),
                };
                (rest.split(['/', '?', '#']).next().unwrap_or_default(), Some(default))
            }
            None => (text, None),
        };
        if authority.contains('@') {
            return Err(AddressError::UserInfo);
        }
        let (host, port) = split_port(authority)?;
        let port = match (port, default) {
            (Some(port), _) => port,
            (None, Some(default)) => default,
            (None, None) => return Err(AddressError::Port),
        };
        Ok(Self { host: parse_host(host)?, port })
    }

    /// `text`, which was read as this address, with this address in its place: what is given to whoever connects.
    #[must_use]
    pub fn in_place_of(&self, text: &str) -> String {
        match text.split_once("://") {
            None => self.to_string(),
            Some((scheme, rest)) => {
                let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                let path = rest.get(end..).unwrap_or_default();
                format!("{}://{self}{path}", scheme.to_ascii_lowercase())
            }
        }
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How far it reaches, as far as it says. A public name may resolve to anything: ask [`reach`] of the answer too.
    #[must_use]
    pub fn reach(&self) -> Reach {
        match &self.host {
            Host::Ip(ip) => reach(*ip),
            Host::Name(name) => reach_of_name(name),
        }
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), AddressError> {
    let (host, port) = if authority.starts_with('[') {
        let end = authority.find(']').ok_or(AddressError::Host)?;
        let (host, rest) = authority.split_at_checked(end + 1).ok_or(AddressError::Host)?;
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return Err(AddressError::Host),
        }
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    let Some(port) = port else { return Ok((host, None)) };
    let digits = !port.is_empty() && port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = if digits { port.parse().ok().filter(|port| *port > 0) } else { None };
    port.map(|port| (host, Some(port))).ok_or(AddressError::Port)
}

fn parse_host(text: &str) -> Result<Host, AddressError> {
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let ip: Ipv6Addr = inner.parse().map_err(|_| AddressError::Host)?; // no zone: AD2
        return Ok(Host::Ip(ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4)));
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if name.is_empty() || name.len() > HOST_BYTES_MAX {
        return Err(AddressError::Host);
    }
    let labels: Vec<&str> = name.split('.').collect();
    // As browsers read it: what ends in a number is an IPv4 address or nothing.
    if labels.last().is_some_and(|last| is_number(last)) {
        return ipv4(&labels).map(|ip| Host::Ip(IpAddr::V4(ip))).ok_or(AddressError::Host);
    }
    let good = |label: &&str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if labels.iter().all(good) { Ok(Host::Name(name)) } else { Err(AddressError::Host) }
}

fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    hex || (!label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit()))
}

/// One to four parts, each decimal, octal (`0…`) or hexadecimal (`0x…`); the last fills what is left.
fn ipv4(labels: &[&str]) -> Option<Ipv4Addr> {
    if labels.len() > 4 {
        return None;
    }
    let parts: Vec<u64> = labels.iter().map(|label| part(label)).collect::<Option<_>>()?;
    let (last, first) = parts.split_last()?;
    let mut whole = 0_u64;
    for (place, byte) in first.iter().enumerate() {
        if *byte > 255 {
            return None;
        }
        whole |= byte << (8 * (3 - place));
    }
    let room = 1_u64 << (8 * (4 - first.len()));
    if *last >= room {
        return None;
    }
    u32::try_from(whole | last).ok().map(Ipv4Addr::from)
}

fn part(label: &str) -> Option<u64> {
    if label.len() > 16 {
        return None;
    }
    if let Some(hex) = label.strip_prefix("0x") {
        return if hex.is_empty() { Some(0) } else { u64::from_str_radix(hex, 16).ok() };
    }
    match label.strip_prefix('0') {
        Some("") => Some(0),
        Some(octal) => u64::from_str_radix(octal, 8).ok(),
        None => label.parse().ok(),
    }
}

fn reach_of_name(name: &str) -> Reach {
    let within =
        |suffix: &str| name == suffix || name.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'));
    if within("localhost") || within("localdomain") {
        return Reach::Machine;
    }
    if name == "metadata" || within("metadata.google.internal") || within("instance-data") {
        return Reach::Metadata;
    }
    let local = ["local", "internal", "intranet", "lan", "home", "corp", "private", "home.arpa"];
    if !name.contains('.') || local.into_iter().any(within) {
        return Reach::Local;
    }
    let nowhere = ["invalid", "test", "example", "onion", "arpa"];
    if nowhere.into_iter().any(within) { Reach::Reserved } else { Reach::Public }
}

/// How far a number reaches (IANA's special-purpose registries, RFC 6890 and after). AD3.
#[must_use]
pub fn reach(ip: IpAddr) -> Reach {
    match ip {
        IpAddr::V4(ip) => reach_v4(ip),
        IpAddr::V6(ip) => reach_v6(ip),
    }
}

fn reach_v4(ip: Ipv4Addr) -> Reach {
    let [a, b, c, d] = ip.octets();
    match (a, b, c, d) {
        (169, 254, 169, 253 | 254) | (169, 254, 170, 2) | (100, 100, 100, 200) | (192, 0, 0, 192) => {
            Reach::Metadata
        }
        (127 | 0, ..) => Reach::Machine,
        (10, ..) | (192, 168, ..) | (169, 254, ..) => Reach::Local,
        (172, 16..=31, ..) | (100, 64..=127, ..) => Reach::Local,
        (192, 0, 0, _) | (192, 0, 2, _) | (198, 51, 100, _) | (203, 0, 113, _) => Reach::Reserved,
        (192, 88, 99, _) | (198, 18 | 19, ..) | (224..=255, ..) => Reach::Reserved,
        _ => Reach::Public,
    }
}

fn reach_v6(ip: Ipv6Addr) -> Reach {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        reach_v4(Ipv4Addr::new(a, b, c, d))
    };
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0] if g == 0 && h <= 1 => Reach::Machine,
        [0, 0, 0, 0, 0, 0xffff | 0] | [0, 0, 0, 0, 0xffff, 0] | [0x64, 0xff9b, 0, 0, 0, 0] => embedded(g, h),
        [0x64, 0xff9b, 1, ..] => Reach::Local,
        [0x2002, high, low, ..] => embedded(high, low),
        [0xfd00, 0xec2, 0, 0, 0, 0] if (g, h) == (0, 0x254) => Reach::Metadata,
        [0xfc00..=0xfdff, ..] | [0xfe80..=0xfeff, ..] => Reach::Local,
        [0x2001, 0xdb8, ..] | [0x2001, 0..=0x1ff, ..] | [0x100, 0, 0, 0, ..] | [0x3fff, 0..=0xfff, ..] => {
            Reach::Reserved
        }
        [0x2000..=0x3fff, ..] => Reach::Public,
        _ => Reach::Reserved,
    }
}

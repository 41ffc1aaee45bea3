//! Sockets that wait for clients: bound early, so that a port in use is found before the store is opened, and listening
//! only when there is somebody to serve.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;

use crate::config::{BrokerConfig, Listener};

/// A listener with its socket, not yet listening.
pub struct Bound {
    /// The listener, with the port that the socket has.
    pub listener: Listener,
    socket: Socket,
}

/// Binds every listener of the configuration, and gives each port that was left to the system its number there. The error
/// is a sentence for the operator.
pub fn bind(config: &mut BrokerConfig) -> Result<Vec<Bound>, String> {
    let receive = buffer_size(config, "socket.receive.buffer.bytes", config.socket_receive_buffer_bytes);
    let send = buffer_size(config, "socket.send.buffer.bytes", config.socket_send_buffer_bytes);
    let mut bound = Vec::with_capacity(config.listeners.len());
    for listener in &mut config.listeners {
        let socket = bind_one(listener, receive, send).map_err(|error| sentence(listener, &error))?;
        let address = socket.local_addr().map_err(|error| sentence(listener, &error))?;
        listener.port = address.as_socket().map_or(listener.port, |address| address.port());
        for endpoint in &mut config.advertised_listeners {
            if endpoint.listener_name == listener.name && endpoint.port == 0 {
                endpoint.port = listener.port;
            }
        }
        bound.push(Bound { listener: listener.clone(), socket });
    }
    Ok(bound)
}

/// The key counts only where an operator set it: a fixed size turns the kernel's own tuning off.
fn buffer_size(config: &BrokerConfig, key: &str, bytes: i32) -> Option<usize> {
    usize::try_from(bytes).ok().filter(|bytes| *bytes > 0 && config.is_set(key))
}

fn bind_one(listener: &Listener, receive: Option<usize>, send: Option<usize>) -> io::Result<Socket> {
    let addresses = match &listener.host {
        Some(host) => (host.trim_matches(['[', ']']), listener.port).to_socket_addrs()?.collect(),
        // Every interface: both families through one socket where the system has IPv6.
        None => vec![
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, listener.port)),
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, listener.port)),
        ],
    };
    let mut failure = io::Error::new(ErrorKind::NotFound, "the host name has no address");
    for address in addresses {
        match bind_to(address, receive, send) {
            Ok(socket) => return Ok(socket),
            // A taken port stays taken in the other family.
            Err(error) if error.kind() == ErrorKind::AddrInUse => return Err(error),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn bind_to(address: SocketAddr, receive: Option<usize>, send: Option<usize>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if let IpAddr::V6(ip) = address.ip() {
        socket.set_only_v6(!ip.is_unspecified())?;
    }
    if let Some(bytes) = receive {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(bytes) = send {
        socket.set_send_buffer_size(bytes)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn sentence(listener: &Listener, error: &io::Error) -> String {
    let host = listener.host.as_deref().unwrap_or_default();
    let why = match error.kind() {
        ErrorKind::AddrInUse => "another process uses the port; stop it or choose another port".to_owned(),
        ErrorKind::PermissionDenied => "this user may not use the port; choose one above 1023".to_owned(),
        ErrorKind::AddrNotAvailable => "this machine does not have the address".to_owned(),
        _ => error.to_string(),
    };
    format!("listeners: cannot listen on {}://{host}:{}: {why}", listener.name, listener.port)
}

impl Bound {
    /// Starts listening: from here on clients can connect. The error is a sentence for the operator.
    pub fn listen(self, backlog: i32) -> Result<(Listener, TcpListener), String> {
        let socket = self.socket.listen(backlog).and_then(|()| TcpListener::from_std(self.socket.into()));
        match socket {
            Ok(socket) => Ok((self.listener, socket)),
            Err(error) => Err(sentence(&self.listener, &error)),
        }
    }
}

//! What the server promises, over real sockets. The service is a small one of the tests' own: the second byte of a request's
//! body says what becomes of it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream as Client};
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::*;
use crate::api::{Frame, Reply};
use crate::config::{Endpoint, Listener, SecurityProtocol};
use crate::wire::frame::RequestHeader;

const ECHO: u8 = 0;
const LATER: u8 = 1;
const BARRIER: u8 = 2;
const SILENT: u8 = 3;
const PANIC: u8 = 4;
const LARGE: u8 = 5;
const CLOSE: u8 = 6;
const SILENT_BARRIER: u8 = 7;

const LARGE_BYTES: usize = 700_000;

/// Not a claim about time: a test that would wait for ever fails instead.
const PATIENCE_MS: u64 = 60_000;

/// A server and what its service did.
struct Running {
    server: Server,
    address: SocketAddr,
    metrics: Arc<crate::metrics::ListenerMetrics>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    started: AtomicUsize,
    later: Mutex<Vec<oneshot::Sender<()>>>,
}

impl State {
    fn answer(&self, what: u8, body: Bytes) -> Reply<Frame> {
        self.started.fetch_add(1, Relaxed);
        let wait = || {
            let (sender, receiver) = oneshot::channel();
            self.later.lock().push(sender);
            receiver
        };
        match what {
            LATER | BARRIER => {
                let released = wait();
                let answer = async move {
                    released.await.expect("the test releases what it asked for");
                    Frame::from(body)
                };
                if what == LATER { Reply::later(answer) } else { Reply::barrier(answer) }
            }
            SILENT => Reply::Silent,
            SILENT_BARRIER => {
                let released = wait();
                Reply::SilentBarrier(async { released.await.expect("the test releases what it asked for") }.boxed())
            }
            PANIC => panic!("the test asked for a panic"),
            LARGE => Frame::from(Bytes::from(vec![7; LARGE_BYTES])).into(),
            CLOSE => Reply::Close(Disconnect::because("the test asked for it")),
            _ => Frame::from(body).into(),
        }
    }
}

fn config() -> BrokerConfig {
    let name: Arc<str> = "PLAINTEXT".into();
    BrokerConfig {
        listeners: vec![Listener {
            name: name.clone(),
            protocol: SecurityProtocol::Plaintext,
            host: Some("127.0.0.1".to_owned()),
            port: 0,
        }],
        advertised_listeners: vec![Endpoint { listener_name: name, host: "127.0.0.1".to_owned(), port: 0 }],
        ..BrokerConfig::default()
    }
}

fn serve(mut config: BrokerConfig) -> Running {
    let metrics = Metrics::new([("Test", 0..=0)].into_iter());
    let state = Arc::new(State::default());
    let service: Arc<dyn Service> = Arc::new({
        let state = Arc::clone(&state);
        move |context: &mut RequestContext, frame: Bytes| {
            let (header, body) = RequestHeader::split(frame, false)?;
            context.correlation_id = header.correlation_id;
            let what = body.first().copied().ok_or(Disconnect::because("an empty body"))?;
            let reply = state.answer(what, body);
            Ok(Call {
                row: 0,
                api_key: 0,
                api_version: 0,
                correlation_id: header.correlation_id,
                flexible: false,
                served: context.received,
                reply,
            })
        }
    });
    let bound = bind(&mut config).expect("a free port");
    let server = Server::start(bound, &config, service, Arc::clone(&metrics)).expect("it listens");
    let address = server.addresses[0].1;
    assert_eq!(config.advertised_listeners[0].port, address.port());
    Running { server, address, metrics: metrics.listener(&"PLAINTEXT".into()), state }
}

/// Runs a client's part of a test on a thread that may block, beside a server.
fn with_server<T: Send + 'static>(config: BrokerConfig, client: impl FnOnce(Running) -> T + Send + 'static) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let running = serve(config);
        tokio::task::spawn_blocking(|| client(running)).await.expect("the client's part holds")
    })
}

fn connect(running: &Running) -> Client {
    let client = Client::connect(running.address).expect("the server accepts");
    client.set_read_timeout(Some(Duration::from_millis(PATIENCE_MS))).unwrap();
    client
}

fn request(correlation_id: i32, what: u8, more: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 4];
    frame.extend([0, 0, 0, 0]);
    frame.extend(correlation_id.to_be_bytes());
    frame.extend([0xff, 0xff, what]);
    frame.extend(more);
    let length = u32::try_from(frame.len() - 4).unwrap();
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
}

/// The correlation id and the body of the next answer.
fn answer(client: &mut Client) -> (i32, Vec<u8>) {
    let mut head = [0; 8];
    client.read_exact(&mut head).expect("an answer");
    let [length, correlation_id] = [0, 4].map(|at| i32::from_be_bytes(head[at..at + 4].try_into().unwrap()));
    let mut body = vec![0; usize::try_from(length).unwrap() - 4];
    client.read_exact(&mut body).expect("the whole answer");
    (correlation_id, body)
}

/// Reads to the end: what came before it. A reset is an end too.
fn rest(client: &mut Client) -> Vec<u8> {
    let mut bytes = Vec::new();
    match client.read_to_end(&mut bytes) {
        Ok(_) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => bytes,
        Err(error) => panic!("the server keeps the connection: {error}"),
    }
}

/// Waits, by way of the server's own answers, until the condition holds.
fn until(running: &Running, holds: impl Fn() -> bool) {
    let mut client = connect(running);
    let deadline = env::tick().plus_ms(PATIENCE_MS);
    while !holds() {
        assert!(env::tick() < deadline, "what was waited for has not come");
        client.write_all(&request(0, ECHO, &[])).unwrap();
        answer(&mut client);
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_whatever_is_ready_first() {
    with_server(config(), |running| {
        let mut client = connect(&running);
        let what = |n: i32| if n % 7 == 3 { LATER } else { ECHO };
        let burst: Vec<u8> = (0..60).flat_map(|n| request(n, what(n), &n.to_be_bytes())).collect();
        client.write_all(&burst).unwrap();
        until(&running, || running.state.later.lock().len() == 9);
        // Released youngest first.
        while let Some(waiting) = running.state.later.lock().pop() {
            waiting.send(()).unwrap();
        }
        for n in 0_i32..60 {
            let (correlation_id, body) = answer(&mut client);
            assert_eq!((correlation_id, &body[1..]), (n, &n.to_be_bytes()[..]));
        }
    });
}

#[test]
fn two_thousand_pipelined_requests_are_answered_in_order() {
    with_server(config(), |running| {
        let mut client = connect(&running);
        let mut writer = client.try_clone().unwrap();
        let sender = std::thread::spawn(move || {
            (0..2_000).for_each(|n| writer.write_all(&request(n, ECHO, &[])).unwrap());
        });
        (0..2_000).for_each(|n| assert_eq!(answer(&mut client).0, n));
        sender.join().unwrap();
    });
}

#[test]
fn a_request_that_comes_byte_by_byte_is_answered() {
    with_server(config(), |running| {
        let mut client = connect(&running);
        client.set_nodelay(true).unwrap();
        for byte in request(5, ECHO, b"slowly") {
            client.write_all(&[byte]).unwrap();
        }
        assert_eq!(answer(&mut client), (5, b"\0slowly".to_vec()));
    });
}

#[test]
fn large_requests_arrive_whole() {
    with_server(config(), |running| {
        let mut client = connect(&running);
        for bytes in [10, 20_000, 65_536, 65_537, 100_000, 3_000_000, 50, 3_000_000, 66_000, 66_000] {
            let more: Vec<u8> = (0..bytes).map(|n| u8::try_from(n % 251).unwrap()).collect();
            let mut both = request(1, ECHO, &more);
            both.extend(request(2, ECHO, b"after"));
            client.write_all(&both).unwrap();
            let (_, body) = answer(&mut client);
            assert!(body[1..] == more[..], "{bytes} bytes");
            assert_eq!(answer(&mut client), (2, b"\0after".to_vec()));
        }
    });
}

#[test]
fn nothing_is_started_behind_a_barrier_and_what_waits_is_when_it_falls() {
    for (barrier, answers) in [(BARRIER, &[1, 2][..]), (SILENT_BARRIER, &[2])] {
        with_server(config(), move |running| {
            let mut client = connect(&running);
            client.write_all(&[request(1, barrier, &[]), request(2, ECHO, &[])].concat()).unwrap();
            let state = Arc::clone(&running.state);
            until(&running, || !state.later.lock().is_empty());
            let mut other = connect(&running);
            let before = running.state.started.load(Relaxed);
            other.write_all(&request(9, ECHO, &[])).unwrap();
            answer(&mut other);
            assert_eq!(running.state.started.load(Relaxed), before + 1);
            running.state.later.lock().pop().unwrap().send(()).unwrap();
            for correlation_id in answers {
                assert_eq!(answer(&mut client).0, *correlation_id);
            }
        });
    }
}

#[test]
fn a_silent_request_gets_no_answer_and_the_next_one_does() {
    with_server(config(), |running| {
        let mut client = connect(&running);
        client.write_all(&[request(1, SILENT, &[]), request(2, ECHO, &[])].concat()).unwrap();
        assert_eq!(answer(&mut client).0, 2);
    });
}

#[test]
fn a_peer_that_never_reads_has_a_bounded_number_of_requests_started() {
    with_server(config(), |running| {
        let mut greedy = connect(&running);
        greedy.set_nonblocking(true).unwrap();
        let frame = request(1, LARGE, &[]);
        // Until the kernel takes no more from us, or the server has been given far more than it may start.
        let sent = (0..100_000).take_while(|_| greedy.write_all(&frame).is_ok()).count();
        let mut other = connect(&running);
        (0..200).for_each(|n| {
            other.write_all(&request(n, ECHO, &[])).unwrap();
            assert_eq!(answer(&mut other).0, n);
        });
        // What fits into both sockets' buffers has left; beyond it at most the limit and one answer are held.
        let started = running.state.started.load(Relaxed) - 200;
        assert!(started < 64 && started < sent, "{started} of {sent} started");
    });
}

#[test]
fn garbage_ends_its_own_connection_only() {
    with_server(config(), |running| {
        let mut good = connect(&running);
        for garbage in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00],
            &[0xff; 64],
            &[0; 64],
            &[0, 0, 0, 3, 1, 2, 3],
            &[0x7f, 0xff, 0xff, 0xff],
            &[0x80, 0, 0, 0],
        ] {
            let mut bad = connect(&running);
            bad.write_all(garbage).unwrap();
            assert!(rest(&mut bad).is_empty(), "{garbage:?}");
            good.write_all(&request(1, ECHO, &[])).unwrap();
            answer(&mut good);
        }
        let closed = |cause| running.metrics.closed_for(cause);
        until(&running, || (closed(CloseCause::Frame), closed(CloseCause::Request)) == (6, 1));
    });
}

#[test]
fn earlier_requests_are_answered_before_a_bad_one_closes() {
    with_server(config(), |running| {
        let mut client = connect(&running);
        client.write_all(&[request(1, ECHO, b"x"), request(2, CLOSE, &[]), request(3, ECHO, &[])].concat()).unwrap();
        assert_eq!(answer(&mut client), (1, b"\0x".to_vec()));
        assert!(rest(&mut client).is_empty());
    });
}

#[test]
fn a_panic_ends_its_own_connection_only_and_is_counted() {
    with_server(config(), |running| {
        let mut good = connect(&running);
        let mut bad = connect(&running);
        bad.write_all(&request(1, PANIC, &[])).unwrap();
        assert!(rest(&mut bad).is_empty());
        good.write_all(&request(2, ECHO, &[])).unwrap();
        assert_eq!(answer(&mut good).0, 2);
        until(&running, || running.metrics.closed_for(CloseCause::Panic) == 1);
    });
}

#[test]
fn a_half_closed_client_gets_its_answers() {
    with_server(config(), |running| {
        let mut client = connect(&running);
        client.write_all(&[request(1, ECHO, &[]), request(2, LARGE, &[])].concat()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(answer(&mut client).0, 1);
        assert_eq!(answer(&mut client).1.len(), LARGE_BYTES);
        assert!(rest(&mut client).is_empty());
    });
}

#[test]
fn an_idle_connection_is_closed_and_one_that_waits_for_an_answer_is_not() {
    with_server(BrokerConfig { connections_max_idle_ms: 40, ..config() }, |running| {
        let mut waits = connect(&running);
        waits.write_all(&request(1, LATER, &[])).unwrap();
        let mut idle = connect(&running);
        assert!(rest(&mut idle).is_empty());
        assert_eq!(running.metrics.closed_for(CloseCause::Peer), 0);
        running.state.later.lock().pop().unwrap().send(()).unwrap();
        assert_eq!(answer(&mut waits).0, 1);
    });
}

#[test]
fn one_connection_too_many_from_an_address_is_closed_at_once() {
    with_server(BrokerConfig { max_connections_per_ip: 1, ..config() }, |running| {
        let mut first = connect(&running);
        first.write_all(&request(1, ECHO, &[])).unwrap();
        answer(&mut first);
        assert!(rest(&mut connect(&running)).is_empty());
        assert_eq!(running.metrics.closed_for(CloseCause::Limit), 1);
        first.write_all(&request(2, ECHO, &[])).unwrap();
        assert_eq!(answer(&mut first).0, 2);
    });
}

#[test]
fn a_full_broker_lets_the_next_connection_wait_for_a_seat() {
    with_server(BrokerConfig { max_connections: 1, ..config() }, |running| {
        let mut first = connect(&running);
        first.write_all(&request(1, ECHO, &[])).unwrap();
        answer(&mut first);
        let mut second = connect(&running);
        second.write_all(&request(2, ECHO, &[])).unwrap();
        assert_eq!(running.state.started.load(Relaxed), 1);
        drop(first);
        assert_eq!(answer(&mut second).0, 2);
    });
}

#[test]
fn requests_arrive_one_at_a_time_when_the_budget_is_smaller_than_each() {
    with_server(BrokerConfig { queued_max_request_bytes: 1, ..config() }, |running| {
        let running = Arc::new(running);
        let clients: Vec<_> = (0..8)
            .map(|n| {
                let running = Arc::clone(&running);
                std::thread::spawn(move || {
                    let mut client = connect(&running);
                    (0..5).for_each(|_| {
                        client.write_all(&request(n, ECHO, &vec![1; 1_000_000])).unwrap();
                        assert_eq!(answer(&mut client).1.len(), 1_000_001);
                    });
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().expect("every request is answered"));
    });
}

#[test]
fn a_drain_answers_what_is_in_flight_and_then_closes() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let running = serve(config());
        let (address, state) = (running.address, Arc::clone(&running.state));
        let (mut client, running) = tokio::task::spawn_blocking(move || {
            let mut client = connect(&running);
            client.write_all(&request(1, LATER, &[])).unwrap();
            until(&running, || !running.state.later.lock().is_empty());
            (client, running)
        })
        .await
        .unwrap();
        let drained = tokio::spawn(running.server.drain(Duration::from_secs(600)));
        // The listening socket closes first.
        while Client::connect(address).is_ok() {
            tokio::task::yield_now().await;
        }
        state.later.lock().pop().unwrap().send(()).unwrap();
        drained.await.unwrap();
        assert_eq!(answer(&mut client).0, 1);
        assert!(rest(&mut client).is_empty());
    });
}

#[test]
fn a_drain_waits_no_longer_than_it_was_told() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let running = serve(config());
        let (mut client, running) = tokio::task::spawn_blocking(move || {
            let mut client = connect(&running);
            client.write_all(&request(1, LATER, &[])).unwrap();
            until(&running, || !running.state.later.lock().is_empty());
            (client, running)
        })
        .await
        .unwrap();
        running.server.drain(Duration::from_millis(1)).await;
        assert!(rest(&mut client).is_empty());
        assert!(running.metrics.closed_for(CloseCause::Shutdown) > 0);
    });
}

#[test]
fn a_port_in_use_is_a_sentence_with_the_key_the_address_and_the_reason() {
    with_server(config(), |running| {
        let mut taken = config();
        taken.listeners[0].port = running.address.port();
        let sentence = bind(&mut taken).err().expect("the port is taken");
        let expected =
            format!("listeners: cannot listen on PLAINTEXT://127.0.0.1:{}: another process", running.address.port());
        assert!(sentence.starts_with(&expected), "{sentence}");
    });
}

#[test]
fn http_shows_metrics_and_readiness() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let ready = Arc::new(AtomicBool::new(false));
    let http = http::bind("127.0.0.1:0").unwrap().expect("an address was given");
    let address = http.address().unwrap();
    http.serve(Metrics::new([("Test", 0..=0)].into_iter()), Arc::clone(&ready)).unwrap();
    let get = |path: &str| {
        let path = path.to_owned();
        runtime.block_on(async move {
            let client = tokio::task::spawn_blocking(move || {
                let mut client = Client::connect(address).unwrap();
                write!(client, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
                String::from_utf8(rest(&mut client)).unwrap()
            });
            client.await.unwrap()
        })
    };
    assert!(get("/healthz").starts_with("HTTP/1.1 200"));
    assert!(get("/readyz").starts_with("HTTP/1.1 503"));
    ready.store(true, Relaxed);
    assert!(get("/readyz").starts_with("HTTP/1.1 200"));
    assert!(get("/metrics").contains("kafka_server_brokertopicmetrics_messagesin_total 0"));
}

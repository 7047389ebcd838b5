//! What strangers and careless programs send.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use rollcall_coap::message::Message;
use rollcall_coap::option::Block;
use rollcall_coap::{Code, Kind, option};
use rollcall_tests::{Edge, TestApp, request};
use serde_json::json;
use sqlx::PgPool;

#[sqlx::test(migrations = "../migrations")]
async fn requests_that_make_no_sense_change_nothing(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut edge = Edge::of(&app, &["desk"]).await;
    edge.start(None).await;
    let mut stand = edge.client(0).await;
    stand.post("/v1/sessions", r#"{"number":1}"#).await;
    let before = stand.get("/v1/sessions").await.json();
    for body in [
        "",
        "[]",
        "7",
        "{",
        "null",
        "{}",
        r#"{"number":0}"#,
        r#"{"number":70000}"#,
        r#"{"number":-1}"#,
        r#"{"number":"7"}"#,
        r#"{"number":7.5}"#,
        r#"{"number":7,"goal":86401}"#,
        r#"{"number":7,"partySize":0}"#,
        r#"{"number":7,"label":7}"#,
        r#"{"number":7,"action":"dance"}"#,
        r#"{"number":7,"action":"page","pageMode":"Loudly"}"#,
        &format!(
            r#"{{"number":7,"label":{}{}}}"#,
            "[".repeat(400),
            "]".repeat(400)
        ),
    ] {
        let answer = stand.post("/v1/sessions", body).await;
        assert_eq!(answer.code, Code::BAD_REQUEST, "{body}");
        assert!(answer.json()["error"].is_string(), "{body}: {answer:?}");
    }
    for (method, path, code) in [
        (Code::DELETE, "/v1/sessions?number=", Code::BAD_REQUEST),
        (Code::DELETE, "/v1/sessions?number=abc", Code::BAD_REQUEST),
        (Code::DELETE, "/v1/sessions?nmber=1", Code::BAD_REQUEST),
        (
            Code::DELETE,
            "/v1/sessions?number=1&number=1",
            Code::BAD_REQUEST,
        ),
        (Code::DELETE, "/v1/sessions?all", Code::BAD_REQUEST),
        (Code::DELETE, "/v1/sessions?number=2", Code::NOT_FOUND),
        (Code::GET, "/v1/sessions?number=2", Code::NOT_FOUND),
        (Code::GET, "/v1/nothing", Code::NOT_FOUND),
        (Code::GET, "/", Code::NOT_FOUND),
        (Code::DELETE, "/v1/settings", Code::METHOD_NOT_ALLOWED),
        (Code::GET, "/v1/page", Code::METHOD_NOT_ALLOWED),
        (Code::GET, "/v1/notify?action=dance", Code::BAD_REQUEST),
    ] {
        let answer = stand.ask(method, path, "").await.unwrap();
        assert_eq!(answer.code, code, "{method} {path}");
    }
    let absent = stand
        .put("/v1/sessions?number=9", r#"{"action":"page"}"#)
        .await;
    assert_eq!(absent.code, Code::NOT_FOUND);
    let after = stand.get("/v1/sessions").await.json();
    assert_eq!(
        (&after["sessions"], &after["globalSessionSequence"]),
        (&before["sessions"], &json!(1))
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn formats_sizes_and_conditions_that_do_not_fit_are_refused(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut edge = Edge::of(&app, &["desk"]).await;
    edge.start(None).await;
    let stand = edge.client(0).await;
    let with = |id: u16, number: u16, value: Vec<u8>| {
        let mut message = request(id, Code::POST, "/v1/sessions", br#"{"number":1}"#);
        message.options.push(number, value);
        message
    };
    let large = Block {
        number: 4_000,
        more: true,
        size_exponent: 6,
    };
    let mut block = with(105, option::BLOCK1, large.to_value().to_vec());
    block.payload = vec![b' '; 1_024].into();
    for (message, code) in [
        (
            with(101, option::CONTENT_FORMAT, vec![0]),
            Code::UNSUPPORTED_FORMAT,
        ),
        (with(102, option::ACCEPT, vec![60]), Code::NOT_ACCEPTABLE),
        (
            with(103, option::IF_NONE_MATCH, vec![]),
            Code::PRECONDITION_FAILED,
        ),
        (with(104, option::SIZE1, vec![1, 0, 1]), Code::TOO_LARGE),
        (block, Code::TOO_LARGE),
        (
            with(106, option::PROXY_URI, b"coap://example.org".to_vec()),
            Code::PROXYING_NOT_SUPPORTED,
        ),
        (with(107, 9, vec![1]), Code::BAD_OPTION),
        (with(108, option::CONTENT_FORMAT, vec![50]), Code::CREATED),
    ] {
        stand.send(&message.encode()).await;
        let answer = stand.receive().await;
        assert_eq!((answer.id, answer.code), (message.id, code));
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn fifty_thousand_sources_fill_nothing(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut edge = Edge::of(&app, &["desk"]).await;
    edge.start(None).await;
    let mut stand = edge.client(0).await;
    stand.post("/v1/sessions", r#"{"number":1}"#).await;
    let before = edge.memory("VmHWM:");
    let to = edge.coap[0];
    tokio::task::spawn_blocking(move || flood(to))
        .await
        .unwrap();
    let answer = stand.get("/v1/sessions?number=1").await;
    assert_eq!(
        answer.code,
        Code::CONTENT,
        "the next good request is answered"
    );
    let grown = edge.memory("VmHWM:") - before;
    assert!(grown < 48 << 10, "{grown} KiB more");
    assert_eq!(
        edge.status().await["events"],
        1,
        "nothing of it is in the spool"
    );
}

/// Sends from 50,000 addresses: every address of 127/8 is this machine.
fn flood(to: SocketAddr) {
    let mut observe = request(1, Code::GET, "/v1/notify?action=get_sessions", b"");
    observe.options.push_uint(option::OBSERVE, 0);
    let mut upload = request(2, Code::POST, "/v1/sessions", &[b' '; 1_024]);
    let first = Block {
        number: 0,
        more: true,
        size_exponent: 6,
    };
    upload.options.push(option::BLOCK1, first.to_value());
    let mut non = request(3, Code::GET, "/v1/sessions", b"");
    non.kind = Kind::NonConfirmable;
    let datagrams = [
        observe.encode().to_vec(),
        upload.encode().to_vec(),
        non.encode().to_vec(),
        vec![0x40, 1, 0, 9, 0xD3, 0xFF, 0xFF],
        vec![0x40, 0, 0, 4],
        Message::empty(Kind::Reset, 77).encode().to_vec(),
    ];
    for n in 0..50_000_u32 {
        let [_, a, b, c] = (n + 2).to_be_bytes();
        let from = SocketAddr::from((Ipv4Addr::new(127, a, b, c), 0));
        let socket = UdpSocket::bind(from).expect("an address of this machine");
        socket
            .send_to(&datagrams[n as usize % datagrams.len()], to)
            .expect("sent");
    }
}

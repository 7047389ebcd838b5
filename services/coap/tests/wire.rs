//! What goes over the wire, message by message, as the tables of RFC 7252, 7641, 7959 and 9175 have it.

use std::net::SocketAddr;
use std::time::Duration;

use rollcall_coap::message::{Message, Token, decode};
use rollcall_coap::option::{self, Block};
use rollcall_coap::{
    Call, Code, Config, Endpoint, Event, Kind, ObserverId, Request, Response, TEXT, Urgency,
};

const NOW: Duration = Duration::from_secs(100);

fn peer() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 40_000))
}

fn stranger() -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 9], 40_000))
}

struct Wire {
    endpoint: Endpoint,
    requests: Vec<Request>,
    observers: Vec<ObserverId>,
    body: Vec<u8>,
    answers: bool,
}

impl Wire {
    fn new() -> Self {
        Self {
            endpoint: Endpoint::new(Config::default(), [1; 32], 0),
            requests: Vec::new(),
            observers: Vec::new(),
            body: b"hello".to_vec(),
            answers: true,
        }
    }

    /// Gives the endpoint a datagram; answers what it sends.
    fn bytes(&mut self, now: Duration, from: SocketAddr, datagram: &[u8]) -> Vec<Message> {
        self.endpoint.receive(now, from, datagram);
        while let Some(event) = self.endpoint.poll_event() {
            if let Event::Request(id, request) = event {
                self.requests.push(request);
                if self.answers {
                    let response = Response::content(TEXT, self.body.clone());
                    self.observers
                        .extend(self.endpoint.respond(now, id, response, true));
                }
            }
        }
        self.sent()
    }

    fn sent(&mut self) -> Vec<Message> {
        let mut sent = Vec::new();
        while let Some((_, bytes)) = self.endpoint.poll_transmit() {
            sent.push(decode(&bytes).expect("what we send is well-formed"));
        }
        sent
    }

    fn send(&mut self, from: SocketAddr, message: &Message) -> Vec<Message> {
        self.bytes(NOW, from, &message.encode())
    }

    fn one(&mut self, message: &Message) -> Message {
        let mut sent = self.send(peer(), message);
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.remove(0)
    }
}

fn request(kind: Kind, code: Code, id: u16) -> Message {
    Message {
        code,
        token: Token::new(&[7, 7]).expect("a token has up to 8 bytes"),
        ..Message::empty(kind, id)
    }
}

fn get(id: u16, options: &[(u16, &[u8])]) -> Message {
    let mut message = request(Kind::Confirmable, Code::GET, id);
    for (number, value) in options {
        message.options.push(*number, value.to_vec());
    }
    message
}

#[test]
fn a_ping_gets_a_reset_and_other_empty_messages_nothing() {
    let mut wire = Wire::new();
    assert_eq!(
        wire.bytes(NOW, peer(), &[0x40, 0, 1, 2]),
        [Message::empty(Kind::Reset, 0x0102)]
    );
    assert_eq!(wire.bytes(NOW, peer(), &[0x60, 0, 1, 2]), []);
    assert_eq!(wire.bytes(NOW, peer(), &[0x70, 0, 1, 2]), []);
    let from_nowhere = "127.0.0.1:0".parse().unwrap();
    assert_eq!(wire.bytes(NOW, from_nowhere, &[0x40, 0, 1, 2]), []);
}

#[test]
fn repeats_get_the_first_answer_and_are_not_carried_out() {
    let mut wire = Wire::new();
    let post = request(Kind::Confirmable, Code::POST, 5);
    let first = wire.one(&post);
    assert_eq!(
        (first.kind, first.id, first.code),
        (Kind::Acknowledgement, 5, Code::CONTENT)
    );
    assert_eq!(wire.one(&post), first);
    let non = request(Kind::NonConfirmable, Code::POST, 6);
    let answer = wire.one(&non);
    assert_eq!(answer.kind, Kind::NonConfirmable);
    assert_ne!(answer.id, 6, "the id is ours");
    assert_eq!(wire.send(peer(), &non), []);
    assert_eq!(wire.requests.len(), 2);
    // Another peer's message of the same id is another message.
    wire.send("127.0.0.1:40001".parse().unwrap(), &post);
    assert_eq!(wire.requests.len(), 3);
    // After the exchange's lifetime the id is free again.
    wire.bytes(NOW + Duration::from_secs(248), peer(), &post.encode());
    assert_eq!(wire.requests.len(), 4);
}

#[test]
fn a_slow_answer_is_announced_and_comes_apart() {
    let mut wire = Wire::new();
    wire.answers = false;
    let post = request(Kind::Confirmable, Code::POST, 5);
    assert_eq!(wire.send(peer(), &post), []);
    assert_eq!(wire.send(peer(), &post), [], "a repeat changes nothing");
    let due = wire
        .endpoint
        .poll_timeout()
        .expect("something is to be done");
    assert!(due <= NOW + Duration::from_secs(1));
    wire.endpoint.handle_timeout(due);
    assert_eq!(wire.sent(), [Message::empty(Kind::Acknowledgement, 5)]);
    assert_eq!(wire.one(&post), Message::empty(Kind::Acknowledgement, 5));
    assert_eq!(wire.requests.len(), 1);
}

#[test]
fn critical_options_and_proxies_are_refused() {
    let mut wire = Wire::new();
    for (number, code) in [
        (9, Code::BAD_OPTION),
        (19, Code::BAD_OPTION),
        (31, Code::BAD_OPTION),
        (2049, Code::BAD_OPTION),
        (option::PROXY_URI, Code::PROXYING_NOT_SUPPORTED),
        (option::PROXY_SCHEME, Code::PROXYING_NOT_SUPPORTED),
    ] {
        let answer = wire.one(&get(number, &[(number, b"x")]));
        assert_eq!(answer.code, code, "option {number}");
        let mut non = get(number + 5_000, &[(number, b"x")]);
        non.kind = Kind::NonConfirmable;
        if code == Code::BAD_OPTION {
            assert_eq!(
                wire.send(peer(), &non),
                [],
                "a non-confirmable one is dropped"
            );
        }
    }
    assert!(wire.requests.is_empty());
    // Elective ones are passed over; Uri-Host and Uri-Port are ours whatever they say.
    let fine = get(
        77,
        &[
            (2048, b"x"),
            (option::URI_HOST, b"example.org"),
            (option::URI_PORT, &[1, 2]),
        ],
    );
    assert_eq!(wire.one(&fine).code, Code::CONTENT);
}

#[test]
fn unknown_methods_and_broken_text_are_refused() {
    let mut wire = Wire::new();
    for detail in [5, 6, 7, 8, 31] {
        let message = request(Kind::Confirmable, Code::new(0, detail), u16::from(detail));
        assert_eq!(wire.one(&message).code, Code::METHOD_NOT_ALLOWED);
    }
    assert_eq!(
        wire.one(&get(50, &[(option::URI_PATH, b"\xFF")])).code,
        Code::BAD_REQUEST
    );
    assert_eq!(
        wire.one(&get(51, &[(option::URI_QUERY, b"a=\xC3")])).code,
        Code::BAD_REQUEST
    );
}

#[test]
fn answers_to_nothing_are_refused() {
    let mut wire = Wire::new();
    let response = request(Kind::Confirmable, Code::CONTENT, 9);
    assert_eq!(wire.one(&response), Message::empty(Kind::Reset, 9));
    let piggybacked = request(Kind::Acknowledgement, Code::CONTENT, 9);
    assert_eq!(wire.send(peer(), &piggybacked), []);
}

#[test]
fn an_entity_tag_that_the_client_holds_saves_the_body() {
    let mut wire = Wire::new();
    wire.body = vec![b'x'; 3_000];
    let answer = wire.one(&get(1, &[]));
    let etag = answer
        .options
        .first(option::ETAG)
        .expect("cut answers have one")
        .clone();
    let block = Block::from_value(answer.options.first(option::BLOCK2).unwrap()).unwrap();
    assert_eq!(
        (block.number, block.more, block.size(), answer.payload.len()),
        (0, true, 1024, 1024)
    );
    assert_eq!(answer.options.uint(option::SIZE2), Some(3_000));
    // The blocks are those of the first answer, though the resource is another by now.
    wire.body = vec![b'y'; 100];
    let next = Block {
        number: 2,
        more: false,
        size_exponent: 6,
    };
    let last = wire.one(&get(2, &[(option::BLOCK2, &next.to_value())]));
    assert_eq!(last.payload, vec![b'x'; 3_000 - 2_048]);
    assert_eq!(last.options.first(option::ETAG), Some(&etag));
    let beyond = Block { number: 3, ..next };
    assert_eq!(
        wire.one(&get(3, &[(option::BLOCK2, &beyond.to_value())]))
            .code,
        Code::BAD_REQUEST
    );
}

#[test]
fn reserved_block_sizes_are_refused() {
    let mut wire = Wire::new();
    assert_eq!(
        wire.one(&get(1, &[(option::BLOCK2, &[7])])).code,
        Code::BAD_REQUEST
    );
    let mut put = request(Kind::Confirmable, Code::PUT, 2);
    put.options.push(option::BLOCK1, vec![0x0F]);
    assert_eq!(wire.one(&put).code, Code::BAD_REQUEST);
    // A number of 20 bits is a number.
    let far = Block {
        number: Block::MAX_NUMBER,
        more: true,
        size_exponent: 0,
    };
    let mut put = request(Kind::Confirmable, Code::PUT, 3);
    put.options.push(option::BLOCK1, far.to_value());
    put.payload = vec![0; 16].into();
    assert_eq!(wire.one(&put).code, Code::TOO_LARGE);
    let gap = Block {
        number: 5,
        more: true,
        size_exponent: 0,
    };
    let mut put = request(Kind::Confirmable, Code::PUT, 4);
    put.options.push(option::BLOCK1, gap.to_value());
    put.payload = vec![0; 16].into();
    assert_eq!(wire.one(&put).code, Code::INCOMPLETE);
}

#[test]
fn a_stranger_gets_little_until_its_address_is_known() {
    let mut wire = Wire::new();
    wire.body = vec![b'x'; 500];
    let sent = wire.send(stranger(), &get(1, &[]));
    assert_eq!(sent[0].code, Code::UNAUTHORIZED);
    let echo = sent[0]
        .options
        .first(option::ECHO)
        .expect("a challenge")
        .to_vec();
    assert!(sent[0].encode().len() <= 136);
    let sent = wire.send(stranger(), &request(Kind::Confirmable, Code::POST, 2));
    assert_eq!(
        sent[0].code,
        Code::UNAUTHORIZED,
        "nothing is done for a stranger"
    );
    assert_eq!(wire.requests.len(), 1, "the GET alone was looked at");
    // Another address's value does not help.
    let other = "203.0.113.10:40000".parse().unwrap();
    assert_eq!(
        wire.send(other, &get(3, &[(option::ECHO, &echo)]))[0].code,
        Code::UNAUTHORIZED
    );
    assert_eq!(
        wire.send(stranger(), &get(3, &[(option::ECHO, &echo)]))[0].code,
        Code::CONTENT
    );
    assert_eq!(
        wire.send(stranger(), &get(4, &[]))[0].code,
        Code::CONTENT,
        "once is enough"
    );
    let small = "203.0.113.11:40000".parse().unwrap();
    wire.body = b"ok".to_vec();
    assert_eq!(
        wire.send(small, &get(5, &[]))[0].code,
        Code::CONTENT,
        "little needs no proof"
    );
}

#[test]
fn a_client_that_wants_no_answer_gets_none() {
    let mut wire = Wire::new();
    let mut message = get(1, &[(option::NO_RESPONSE, &[2])]);
    assert_eq!(wire.one(&message), Message::empty(Kind::Acknowledgement, 1));
    message.kind = Kind::NonConfirmable;
    message.id = 2;
    assert_eq!(wire.send(peer(), &message), []);
}

#[test]
fn resets_of_both_kinds_end_an_observation() {
    for urgency in [Urgency::Casual, Urgency::Each] {
        let mut wire = Wire::new();
        let first = wire.one(&get(1, &[(option::OBSERVE, &[])]));
        let before = first.options.uint(option::OBSERVE).expect("observed");
        let observer = wire.observers[0];
        wire.endpoint
            .notify(NOW, observer, Response::content(TEXT, "news"), urgency);
        let notification = wire.sent().remove(0);
        let is_confirmable = notification.kind == Kind::Confirmable;
        assert_eq!(is_confirmable, urgency == Urgency::Each);
        assert_eq!(notification.token, first.token);
        assert!(notification.options.uint(option::OBSERVE) > Some(before));
        wire.send(peer(), &Message::empty(Kind::Reset, notification.id));
        wire.endpoint
            .notify(NOW, observer, Response::content(TEXT, "more"), urgency);
        assert_eq!(wire.sent(), []);
    }
}

#[test]
fn registering_again_refreshes_and_another_token_is_another_observer() {
    let mut wire = Wire::new();
    wire.one(&get(1, &[(option::OBSERVE, &[])]));
    wire.one(&get(2, &[(option::OBSERVE, &[])]));
    let mut other = get(3, &[(option::OBSERVE, &[])]);
    other.token = Token::new(&[8]).unwrap();
    wire.one(&other);
    assert_eq!(wire.endpoint.observers().count(), 2);
    // A plain GET of the same token changes nothing; Observe 1 ends it.
    wire.one(&get(4, &[]));
    assert_eq!(wire.endpoint.observers().count(), 2);
    wire.one(&get(5, &[(option::OBSERVE, &[1])]));
    assert_eq!(wire.endpoint.observers().count(), 1);
}

/// node-coap sends Observe with every block's request, and takes the body's number from the last block.
#[test]
fn further_blocks_have_the_number_of_their_notification_for_who_asks_to_observe() {
    let mut wire = Wire::new();
    wire.body = vec![b'x'; 3000];
    let observe: (u16, &[u8]) = (option::OBSERVE, &[]);
    let first = wire.one(&get(1, &[observe]));
    let number = first.options.uint(option::OBSERVE).expect("observed");
    let observer = wire.observers[0];
    let asks = wire.requests.len();
    // Blocks of 1,024 bytes.
    let block = |number: u8| [number << 4 | 6];
    for (at, has_more) in [(1, true), (2, false)] {
        let answer = wire.one(&get(
            1 + u16::from(at),
            &[observe, (option::BLOCK2, &block(at))],
        ));
        let is = Block::from_value(answer.options.first(option::BLOCK2).unwrap()).unwrap();
        assert_eq!((is.number, is.more), (u32::from(at), has_more));
        assert_eq!(answer.options.uint(option::OBSERVE), Some(number));
    }
    // What is newer goes out with a higher number; blocks of what was before keep theirs.
    let news = Response::content(TEXT, "news");
    wire.endpoint.notify(NOW, observer, news, Urgency::Each);
    let after = wire.sent().remove(0).options.uint(option::OBSERVE);
    assert!(after > Some(number));
    let late = wire.one(&get(4, &[observe, (option::BLOCK2, &block(2))]));
    assert_eq!(late.options.uint(option::OBSERVE), Some(number));
    // Who does not ask, or does not observe, gets blocks as RFC 7959's figures have them.
    let plain = wire.one(&get(5, &[(option::BLOCK2, &block(1))]));
    assert_eq!(plain.options.first(option::OBSERVE), None);
    let mut other = get(6, &[observe, (option::BLOCK2, &block(1))]);
    other.token = Token::new(&[8]).unwrap();
    assert_eq!(wire.one(&other).options.first(option::OBSERVE), None);
    assert_eq!(wire.requests.len(), asks);
    assert_eq!(wire.endpoint.observers().count(), 1);
}

#[test]
fn what_changes_while_a_first_answer_is_fetched_is_told_after_it() {
    for asks_to_observe in [false, true] {
        let mut wire = Wire::new();
        wire.body = vec![b'x'; 3000];
        wire.one(&get(1, &[(option::OBSERVE, &[])]));
        let observer = wire.observers[0];
        for news in ["first", "second"] {
            let news = Response::content(TEXT, news);
            wire.endpoint.notify(NOW, observer, news, Urgency::Each);
        }
        assert_eq!(wire.sent(), []);
        let mut block = |at: u8| {
            let value = [at << 4 | 6];
            let mut request = get(1 + u16::from(at), &[(option::BLOCK2, &value)]);
            if asks_to_observe {
                request.options.push(option::OBSERVE, vec![]);
            }
            wire.send(peer(), &request)
        };
        assert_eq!(block(1).len(), 1);
        let sent = block(2);
        assert_eq!(sent.len(), 2, "the last block, and the first that waited");
        assert_eq!(sent[0].kind, Kind::Acknowledgement);
        assert_eq!(&sent[1].payload[..], b"first");
        let next = wire.send(peer(), &Message::empty(Kind::Acknowledgement, sent[1].id));
        assert_eq!(&next[0].payload[..], b"second");
    }
}

#[test]
fn an_observer_that_does_not_fetch_its_first_answer_is_told_all_the_same() {
    let mut wire = Wire::new();
    wire.body = vec![b'x'; 3000];
    wire.one(&get(1, &[(option::OBSERVE, &[])]));
    let news = Response::content(TEXT, "news");
    let observer = wire.observers[0];
    wire.endpoint.notify(NOW, observer, news, Urgency::Each);
    assert_eq!(wire.sent(), []);
    let due = wire.endpoint.poll_timeout().expect("it waits");
    assert!(due <= NOW + Duration::from_secs(5));
    wire.endpoint.handle_timeout(NOW + Duration::from_secs(5));
    assert_eq!(&wire.sent()[0].payload[..], b"news");
}

#[test]
fn an_error_or_another_format_ends_an_observation() {
    for response in [
        Response::new(Code::NOT_FOUND),
        Response::content(rollcall_coap::JSON, "{}"),
    ] {
        let mut wire = Wire::new();
        wire.one(&get(1, &[(option::OBSERVE, &[])]));
        let observer = wire.observers[0];
        wire.endpoint.notify(NOW, observer, response, Urgency::Each);
        let last = wire.sent().remove(0);
        assert_eq!(last.code.class(), 4);
        assert_eq!(last.options.first(option::OBSERVE), None);
        assert_eq!(wire.endpoint.observers().count(), 0);
    }
}

#[test]
fn one_notification_at_a_time_and_the_newest_next() {
    let mut wire = Wire::new();
    wire.one(&get(1, &[(option::OBSERVE, &[])]));
    let observer = wire.observers[0];
    for state in ["one", "two", "three"] {
        wire.endpoint.notify(
            NOW,
            observer,
            Response::content(TEXT, state),
            Urgency::Latest,
        );
    }
    let first = wire.sent();
    assert_eq!(first.len(), 1, "the others wait");
    assert_eq!(&first[0].payload[..], b"one");
    // It is not acknowledged: what is sent again is the newest, under an id of its own.
    let due = wire.endpoint.poll_timeout().unwrap() + Duration::from_secs(1);
    wire.endpoint.handle_timeout(due);
    let again = wire.sent();
    assert_eq!(&again[0].payload[..], b"three");
    assert_ne!(again[0].id, first[0].id);
    assert_eq!(
        wire.send(peer(), &Message::empty(Kind::Acknowledgement, again[0].id)),
        []
    );
}

#[test]
fn a_notification_is_acknowledged_when_it_is_safe() {
    let mut wire = Wire::new();
    let call = Call {
        observe: true,
        holds_acknowledgement: true,
        ..Call::new(Code::GET, "/v1/notify")
    };
    wire.endpoint.call(NOW, peer(), call);
    let asked = wire.sent().remove(0);
    let told = |kind, id, number: u32| {
        let mut message = Message {
            code: Code::CONTENT,
            token: asked.token,
            payload: "news".into(),
            ..Message::empty(kind, id)
        };
        message.options.push_uint(option::OBSERVE, number);
        message
    };
    wire.endpoint.receive(
        NOW,
        peer(),
        &told(Kind::Acknowledgement, asked.id, 1).encode(),
    );
    let Some(Event::Notified(_, _, None)) = wire.endpoint.poll_event() else {
        panic!("the first answer needs no receipt");
    };
    let news = told(Kind::Confirmable, 900, 2);
    for _ in 0..2 {
        wire.endpoint.receive(NOW, peer(), &news.encode());
        assert_eq!(wire.sent(), [], "nothing is acknowledged yet");
    }
    let Some(Event::Notified(_, _, Some(receipt))) = wire.endpoint.poll_event() else {
        panic!("it is told once, with a receipt");
    };
    assert!(wire.endpoint.poll_event().is_none());
    wire.endpoint.confirm(receipt);
    let acknowledgement = Message::empty(Kind::Acknowledgement, 900);
    assert_eq!(wire.sent(), std::slice::from_ref(&acknowledgement));
    wire.endpoint.receive(NOW, peer(), &news.encode());
    assert_eq!(
        wire.sent(),
        [acknowledgement],
        "and once more where that was lost"
    );
    // What is old news tells nobody anything, but must not be repeated for ever.
    wire.endpoint
        .receive(NOW, peer(), &told(Kind::Confirmable, 901, 1).encode());
    assert!(wire.endpoint.poll_event().is_none());
    assert_eq!(wire.sent(), [Message::empty(Kind::Acknowledgement, 901)]);
}

//! A transmitter on a bench: whole requests in, whole bodies out.

mod clocks;
mod contract;
mod histories;
mod mirror;
mod resources;
mod undo;

use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use crate::{Config, DeviceTime, Effects, Method, Now, Reply, Request, Transmitter};

/// A transmitter, the moment it lives in and what to name its next session.
#[derive(Clone)]
struct Bench {
    pager: Transmitter,
    now: Now,
    uuid: Uuid,
    uuids: usize,
}

impl Bench {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let now = Now {
            utc: utc("2018-03-15T08:00:00"),
            monotonic: Duration::from_secs(1_000),
        };
        Self {
            pager: Transmitter::new(config, now),
            now,
            uuid: Uuid::nil(),
            uuids: 0,
        }
    }

    /// Lets time pass on all clocks.
    fn wait(&mut self, seconds: u64) -> &mut Self {
        self.now.utc += Duration::from_secs(seconds);
        self.now.monotonic += Duration::from_secs(seconds);
        self
    }

    /// Moves the wall clock alone.
    fn at(&mut self, stamp: &str) -> &mut Self {
        self.now.utc = utc(stamp);
        self
    }

    /// Sends JSON to an address such as `/v1/sessions?number=3&x=1`.
    fn send(&mut self, method: Method, address: &str, body: &str) -> Reply {
        self.send_as(method, address, body, None, &[])
    }

    fn send_as(
        &mut self,
        method: Method,
        address: &str,
        body: &str,
        content_format: Option<u16>,
        etags: &[Vec<u8>],
    ) -> Reply {
        let (path, query) = match address.split_once('?') {
            Some((path, query)) => (path, query.split('&').map(str::to_owned).collect()),
            None => (address, Vec::new()),
        };
        let path: Vec<String> = path.split('/').skip(1).map(str::to_owned).collect();
        let request = Request {
            method,
            path: &path,
            query: &query,
            content_format,
            etags,
            payload: body.as_bytes(),
        };
        let (uuid, uuids) = (self.uuid, &mut self.uuids);
        self.pager.handle(request, self.now, || {
            *uuids += 1;
            uuid
        })
    }

    fn get(&mut self, address: &str) -> Reply {
        self.send(Method::Get, address, "")
    }

    fn post(&mut self, address: &str, body: &str) -> Reply {
        self.send(Method::Post, address, body)
    }

    fn put(&mut self, number: u16, body: &str) -> Reply {
        let address = format!("/v1/sessions?number={number}");
        self.send(Method::Put, &address, body)
    }

    fn delete(&mut self, address: &str) -> Reply {
        self.send(Method::Delete, address, "")
    }

    fn tick(&mut self) -> Effects {
        self.pager.tick(self.now)
    }

    fn statistics(&self) -> crate::Summary {
        self.pager.meta().statistics.summary()
    }
}

fn utc(stamp: &str) -> time::OffsetDateTime {
    DeviceTime::parse(stamp).unwrap().get().assume_utc()
}

fn text(reply: &Reply) -> String {
    String::from_utf8(reply.body.clone().unwrap()).unwrap()
}

fn json(reply: &Reply) -> Value {
    serde_json::from_slice(reply.body.as_ref().unwrap()).unwrap()
}

fn code(reply: &Reply) -> String {
    reply.code.to_string()
}

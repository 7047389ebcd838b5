//! Which resource and method does what, and what it answers (pager contract, 1.5, L2, L3, L22).
//! A refused request changes nothing: everything is checked before anything is done.

use uuid::Uuid;

use crate::body::{self, Fields, SessionPatch};
use crate::clock::Now;
use crate::request::{
    Code, Effects, Method, Refusal, Reply, Request, no_query, number_query, wants_sessions,
};
use crate::session::Session;
use crate::settings::SettingsPatch;
use crate::transmitter::Transmitter;
use crate::wire::{self, Content, SessionBody};

/// The registered number of `application/json`.
const JSON: u16 = 50;

#[derive(Clone, Copy)]
enum Resource {
    Sessions,
    History,
    Statistics,
    Settings,
    Page,
    Notify,
}

impl Resource {
    fn find(path: &[String]) -> Result<Self, Refusal> {
        let segments: Vec<&str> = path.iter().map(String::as_str).collect();
        match segments[..] {
            ["v1", "sessions"] => Ok(Self::Sessions),
            ["v1", "sessions", "history"] => Ok(Self::History),
            ["v1", "sessions", "statistics"] => Ok(Self::Statistics),
            ["v1", "settings"] => Ok(Self::Settings),
            ["v1", "page"] => Ok(Self::Page),
            ["v1", "notify"] => Ok(Self::Notify),
            _ => Err(Refusal::new(
                Code::NOT_FOUND,
                "There is no such resource; sessions are at /v1/sessions.",
            )),
        }
    }
}

/// A reply whose effects are not known yet.
struct Answer {
    code: Code,
    body: Option<Vec<u8>>,
    etag: Option<[u8; 8]>,
}

impl Answer {
    fn empty(code: Code) -> Self {
        let (body, etag) = (None, None);
        Self { code, body, etag }
    }

    fn with(code: Code, body: Vec<u8>) -> Self {
        let (body, etag) = (Some(body), None);
        Self { code, body, etag }
    }
}

impl Transmitter {
    /// Does one request. A GET of `/v1/notify` answers the first body of an observer; registering
    /// it is the caller's.
    ///
    /// `new_uuid` makes the version 4 UUID of a new session and is called for nothing else.
    pub fn handle(
        &mut self,
        request: Request<'_>,
        now: Now,
        new_uuid: impl FnOnce() -> Uuid,
    ) -> Reply {
        self.begin(now);
        let answer = self.route(&request, now, new_uuid);
        Reply {
            effects: self.finish(),
            ..reply(answer)
        }
    }

    /// Does a request that changes nothing: a GET. Nothing where it is another. Of what is due by
    /// time it shows only what the last [`Transmitter::tick`] did.
    pub fn read(&self, request: Request<'_>, now: Now) -> Option<Reply> {
        if request.method != Method::Get {
            return None;
        }
        let answer =
            Resource::find(request.path).and_then(|resource| self.get(resource, &request, now));
        Some(reply(answer))
    }

    fn get(&self, resource: Resource, request: &Request<'_>, now: Now) -> Result<Answer, Refusal> {
        match resource {
            Resource::Sessions => self.get_sessions(request, now),
            Resource::History => self.get_history(request, now),
            Resource::Statistics => self.get_statistics(request, now),
            Resource::Settings => self.get_settings(request, now),
            Resource::Notify => self.get_notify(request, now),
            Resource::Page => Err(Refusal::no_such_method()),
        }
    }

    fn route(
        &mut self,
        request: &Request<'_>,
        now: Now,
        new_uuid: impl FnOnce() -> Uuid,
    ) -> Result<Answer, Refusal> {
        use Method::{Delete, Post, Put};
        let resource = Resource::find(request.path)?;
        match (resource, request.method) {
            (resource, Method::Get) => self.get(resource, request, now),
            (Resource::Sessions, Post) => self.post_session(request, now, new_uuid),
            (Resource::Sessions, Put) => self.put_session(request, now),
            (Resource::Sessions, Delete) => self.delete_sessions(request, now),
            (Resource::History, Delete) => self.delete_history(request),
            (Resource::Statistics, Delete) => self.delete_statistics(request),
            (Resource::Settings, Post) => self.post_settings(request, now),
            (Resource::Page, Post) => self.post_page(request),
            _ => Err(Refusal::no_such_method()),
        }
    }

    fn get_sessions(&self, request: &Request<'_>, now: Now) -> Result<Answer, Refusal> {
        let Some(number) = number_query(request.query)? else {
            let etag = self.etag();
            let is_known = request.etags.iter().any(|known| known[..] == etag);
            return Ok(Answer {
                code: if is_known { Code::VALID } else { Code::CONTENT },
                body: (!is_known).then(|| self.active_body(now)),
                etag: Some(etag),
            });
        };
        let session = self.table.find(number);
        let session = session.ok_or_else(|| Refusal::absent(number))?;
        // One session comes without statistics, as in seed 000.
        let content = Content {
            sessions: Some(vec![SessionBody::new(session)]),
            ..Content::default()
        };
        Ok(Answer::with(Code::CONTENT, self.body(content, now)))
    }

    fn post_session(
        &mut self,
        request: &Request<'_>,
        now: Now,
        new_uuid: impl FnOnce() -> Uuid,
    ) -> Result<Answer, Refusal> {
        accepts(request)?;
        let query = number_query(request.query)?;
        let fields = Fields::parse(request.payload)?;
        let number = body::post_number(&fields, query)?;
        let patch = SessionPatch::parse(&fields, &self.config.extra_page_modes)?;
        let (code, session) = self.upsert(number, patch, now, new_uuid)?;
        Ok(Answer::with(code, self.changed_body(&session, now)))
    }

    fn put_session(&mut self, request: &Request<'_>, now: Now) -> Result<Answer, Refusal> {
        accepts(request)?;
        let number = number_query(request.query)?.ok_or_else(|| {
            Refusal::bad("Query option `number` is missing; send PUT /v1/sessions?number=<pager>.")
        })?;
        let fields = Fields::parse_or_empty(request.payload)?;
        let patch = SessionPatch::parse(&fields, &self.config.extra_page_modes)?;
        let session = self.update(number, patch, now)?;
        let body = self.changed_body(&session, now);
        Ok(Answer::with(Code::CHANGED, body))
    }

    fn delete_sessions(&mut self, request: &Request<'_>, now: Now) -> Result<Answer, Refusal> {
        match number_query(request.query)? {
            Some(number) => self.remove(number, now)?,
            None => self.clear_all(now),
        }
        Ok(Answer::empty(Code::DELETED))
    }

    fn get_history(&self, request: &Request<'_>, now: Now) -> Result<Answer, Refusal> {
        no_query(request.query)?;
        let content = Content {
            session_history: Some(self.history().map(SessionBody::archived).collect()),
            ..Content::default()
        };
        Ok(Answer::with(Code::CONTENT, self.body(content, now)))
    }

    fn delete_history(&mut self, request: &Request<'_>) -> Result<Answer, Refusal> {
        no_query(request.query)?;
        self.effects.is_history_cleared = self.table.clear_history();
        Ok(Answer::empty(Code::DELETED))
    }

    fn get_statistics(&self, request: &Request<'_>, now: Now) -> Result<Answer, Refusal> {
        no_query(request.query)?;
        let content = Content {
            statistics: Some(self.meta.statistics.summary()),
            ..Content::default()
        };
        Ok(Answer::with(Code::CONTENT, self.body(content, now)))
    }

    fn delete_statistics(&mut self, request: &Request<'_>) -> Result<Answer, Refusal> {
        no_query(request.query)?;
        self.clear_statistics();
        Ok(Answer::empty(Code::DELETED))
    }

    fn get_settings(&self, request: &Request<'_>, now: Now) -> Result<Answer, Refusal> {
        no_query(request.query)?;
        let body = self.settings_notification(now);
        Ok(Answer::with(Code::CONTENT, body))
    }

    fn post_settings(&mut self, request: &Request<'_>, now: Now) -> Result<Answer, Refusal> {
        accepts(request)?;
        no_query(request.query)?;
        let patch = SettingsPatch::parse(request.payload)?;
        self.set(patch, now);
        let body = self.settings_notification(now);
        Ok(Answer::with(Code::CHANGED, body))
    }

    fn post_page(&mut self, request: &Request<'_>) -> Result<Answer, Refusal> {
        accepts(request)?;
        no_query(request.query)?;
        let (number, options) =
            body::standalone_page(request.payload, &self.config.extra_page_modes)?;
        self.transmit(number, options);
        Ok(Answer::empty(Code::CHANGED))
    }

    fn get_notify(&self, request: &Request<'_>, now: Now) -> Result<Answer, Refusal> {
        let body = match wants_sessions(request.query)? {
            true => self.active_body(now),
            false => self.ping(now),
        };
        Ok(Answer::with(Code::CONTENT, body))
    }

    /// The answer to POST and PUT: the one session, in an array, and the statistics.
    fn changed_body(&self, session: &Session, now: Now) -> Vec<u8> {
        let content = Content {
            statistics: Some(self.meta.statistics.summary()),
            sessions: Some(vec![SessionBody::new(session)]),
            ..Content::default()
        };
        self.body(content, now)
    }
}

/// What a transmitter would say to a request whose resource, method or query it cannot take; nothing where it can.
pub fn refuse_query(request: &Request<'_>) -> Option<Reply> {
    use Method::{Delete, Get, Post, Put};
    let looked_at =
        Resource::find(request.path).and_then(|resource| match (resource, request.method) {
            (Resource::Sessions, Put) => match number_query(request.query)? {
                Some(_) => Ok(()),
                None => Err(Refusal::bad(
                    "Query option `number` is missing; send PUT /v1/sessions?number=<pager>.",
                )),
            },
            (Resource::Sessions, Get | Post | Delete) => number_query(request.query).map(|_| ()),
            (Resource::History | Resource::Statistics, Get | Delete)
            | (Resource::Settings, Get | Post)
            | (Resource::Page, Post) => no_query(request.query),
            (Resource::Notify, Get) => wants_sessions(request.query).map(|_| ()),
            _ => Err(Refusal::no_such_method()),
        });
    looked_at.err().map(|refusal| reply(Err(refusal)))
}

/// What is said of a request, but for its effects.
fn reply(answer: Result<Answer, Refusal>) -> Reply {
    let Answer { code, body, etag } = answer.unwrap_or_else(|refusal| {
        let body = wire::error(&refusal.sentence);
        Answer::with(refusal.code, body)
    });
    Reply {
        code,
        body,
        etag,
        effects: Effects::default(),
    }
}

/// Refuses a body that is said not to be JSON.
fn accepts(request: &Request<'_>) -> Result<(), Refusal> {
    match request.content_format {
        None | Some(JSON) => Ok(()),
        Some(_) => Err(Refusal::new(
            Code::UNSUPPORTED_CONTENT_FORMAT,
            "The body is not marked as JSON; send Content-Format 50.",
        )),
    }
}

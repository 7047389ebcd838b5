//! A client of the application, with a credential, that gives whole answers.

use reqwest::header::HeaderMap;
use reqwest::multipart::{Form, Part};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::Value;

/// What a client presents.
#[derive(Clone, Debug)]
pub enum Credential {
    None,
    Basic { id: String, secret: String },
    Bearer(String),
}

/// A client.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    pub credential: Credential,
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
}

impl Client {
    /// A client without a credential. Making one is slow (it reads the machine's certificates): share it by [`Self::with`].
    pub fn new(base: &str) -> Self {
        Self {
            http: reqwest::Client::new(),
            base: base.to_owned(),
            credential: Credential::None,
        }
    }

    /// The same client with another credential.
    pub fn with(&self, credential: Credential) -> Self {
        Self {
            credential,
            ..self.clone()
        }
    }

    /// The same client of another server.
    pub fn at(&self, base: &str) -> Self {
        Self {
            base: base.to_owned(),
            ..self.clone()
        }
    }

    /// A request with the credential, to be filled and sent with [`send`].
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.credential {
            Credential::None => request,
            Credential::Basic { id, secret } => request.basic_auth(id, Some(secret)),
            Credential::Bearer(token) => request.bearer_auth(token),
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        send(self.request(Method::POST, path).json(body)).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        send(self.request(Method::PUT, path).json(body)).await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        send(self.request(Method::PATCH, path).json(body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        send(self.request(Method::DELETE, path)).await
    }

    pub async fn post_form(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        send(self.request(Method::POST, path).form(fields)).await
    }

    pub async fn post_multipart(&self, path: &str, form: Form) -> Answer {
        send(self.request(Method::POST, path).multipart(form)).await
    }

    /// Sends a body as it is, with a content type.
    pub async fn post_raw(
        &self,
        path: &str,
        content_type: &str,
        body: impl Into<Vec<u8>>,
    ) -> Answer {
        let request = self
            .request(Method::POST, path)
            .header("content-type", content_type);
        send(request.body(body.into())).await
    }
}

/// Sends a request and reads the answer to its end.
pub async fn send(request: RequestBuilder) -> Answer {
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status(), response.headers().clone());
    let bytes = response.bytes().await.expect("a whole answer").to_vec();
    Answer {
        status,
        headers,
        bytes,
    }
}

/// A file as a part of a form.
pub fn file(name: &str, content_type: &str, bytes: impl Into<Vec<u8>>) -> Part {
    Part::bytes(bytes.into())
        .file_name(name.to_owned())
        .mime_str(content_type)
        .expect("a media type")
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The `result` of a successful answer of the forms surface.
    pub fn result(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text());
        self.json()["result"].clone()
    }

    /// The status and the stable code of an error, in whichever dialect; of brokers' tools, which has no codes, the text.
    pub fn error(&self) -> (u16, String) {
        let json = self.json();
        let code = json["code"]
            .as_str()
            .or_else(|| json["errors"][0]["code"].as_str())
            .or_else(|| json["error"].as_str());
        (
            self.status.as_u16(),
            code.unwrap_or_else(|| panic!("no error: {}", self.text()))
                .to_owned(),
        )
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

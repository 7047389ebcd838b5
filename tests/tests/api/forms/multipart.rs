//! Multipart bodies written byte by byte: in the order, with the headers and the boundary that a test is about.

/// A body being written.
#[derive(Clone)]
pub struct Body {
    boundary: String,
    /// Each part behind its boundary.
    parts: Vec<Vec<u8>>,
}

impl Body {
    pub fn new() -> Self {
        Self {
            boundary: "----fields".to_owned(),
            parts: Vec::new(),
        }
    }

    /// The same body with another boundary.
    pub fn bounded(self, boundary: &str) -> Self {
        Self {
            boundary: boundary.to_owned(),
            ..self
        }
    }

    /// A field with a text.
    pub fn text(self, name: &str, value: &str) -> Self {
        self.part(&format!("name=\"{name}\""), None, value.as_bytes())
    }

    /// A field with a file.
    pub fn file(self, name: &str, filename: &str, content_type: &str, bytes: &[u8]) -> Self {
        let disposition = format!("name=\"{name}\"; filename=\"{filename}\"");
        self.part(&disposition, Some(content_type), bytes)
    }

    /// A field with whatever parameters.
    pub fn part(mut self, disposition: &str, content_type: Option<&str>, bytes: &[u8]) -> Self {
        let mut head = format!("Content-Disposition: form-data; {disposition}\r\n");
        if let Some(content_type) = content_type {
            head += &format!("Content-Type: {content_type}\r\n");
        }
        self.parts.push([head.as_bytes(), b"\r\n", bytes].concat());
        self
    }

    /// The content type and the body.
    pub fn finish(self) -> (String, Vec<u8>) {
        let boundary = self.boundary;
        let mut body = Vec::new();
        for part in self.parts {
            body.extend(format!("--{boundary}\r\n").as_bytes());
            body.extend(part);
            body.extend(b"\r\n");
        }
        body.extend(format!("--{boundary}--\r\n").as_bytes());
        (
            format!("multipart/form-data; boundary=\"{boundary}\""),
            body,
        )
    }
}

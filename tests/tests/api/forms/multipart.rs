//! Multipart bodies written byte by byte: in the order, with the headers and the boundary that a test is about.

/// A body being written.
pub struct Body {
    boundary: &'static str,
    bytes: Vec<u8>,
}

impl Body {
    pub fn new() -> Self {
        Self::with_boundary("----fields")
    }

    pub fn with_boundary(boundary: &'static str) -> Self {
        Self {
            boundary,
            bytes: Vec::new(),
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
        let head = format!(
            "--{}\r\nContent-Disposition: form-data; {disposition}\r\n",
            self.boundary
        );
        self.bytes.extend(head.as_bytes());
        if let Some(content_type) = content_type {
            self.bytes
                .extend(format!("Content-Type: {content_type}\r\n").as_bytes());
        }
        self.bytes.extend(b"\r\n");
        self.bytes.extend(bytes);
        self.bytes.extend(b"\r\n");
        self
    }

    /// The content type and the body.
    pub fn finish(mut self) -> (String, Vec<u8>) {
        self.bytes
            .extend(format!("--{}--\r\n", self.boundary).as_bytes());
        let content_type = format!("multipart/form-data; boundary=\"{}\"", self.boundary);
        (content_type, self.bytes)
    }
}

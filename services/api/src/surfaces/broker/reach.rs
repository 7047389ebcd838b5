//! Which brokers an answer draws on: those in the credential's reach that were ever seen, of one project or of one name
//! where that is asked for.

use actix_web::HttpRequest;
use percent_encoding::percent_decode_str;
use rollcall_model::{OrgId, ProjectId};
use rollcall_store::brokers::{self, Broker, Selection};
use rollcall_store::{TenantConn, projects};
use time::OffsetDateTime;

use crate::auth::Principal;
use crate::error::{ApiError, Problem};
use crate::surfaces::forms;

/// How far a request sees.
pub struct Reach {
    pub who: Principal,
    pub project: Option<ProjectId>,
    /// The path names the project, so that it has to exist.
    is_named: bool,
}

impl Reach {
    /// All that the credential reaches.
    pub fn of(who: Principal) -> Self {
        Self {
            project: who.project,
            is_named: false,
            who,
        }
    }

    /// A project of a path.
    pub fn of_project(who: Principal, path: &forms::ProjectPath) -> Result<Self, ApiError> {
        let project = forms::in_reach(&who, path.project_id)?;
        Ok(Self {
            project: Some(project),
            is_named: true,
            who,
        })
    }

    pub fn org(&self) -> OrgId {
        self.who.org
    }

    /// The brokers in reach that were ever seen; 503 where there is none (decision 20).
    pub async fn brokers(&self, tx: &mut TenantConn) -> Result<Vec<Broker>, ApiError> {
        if let Some(project) = self.project.filter(|_| self.is_named)
            && !projects::exists(tx, project).await?
        {
            return Err(forms::no_project());
        }
        let seen = brokers::seen(tx, self.project).await?;
        if seen.is_empty() {
            let problem = Problem::new("broker_unavailable", "broker not available");
            return Err(ApiError::Unavailable(problem));
        }
        Ok(seen)
    }

    /// Leaves the one broker of a name, where one is asked for, and says what to select of it.
    pub fn narrow(
        &self,
        seen: Vec<Broker>,
        service: Option<&str>,
    ) -> Result<(Vec<Broker>, Selection), ApiError> {
        let mut selection = Selection {
            project: self.project,
            ..Selection::default()
        };
        let Some(name) = service else {
            return Ok((seen, selection));
        };
        let named = seen.into_iter().find(|broker| broker.name == name);
        let broker = named.ok_or_else(|| {
            ApiError::not_found(
                "service_not_found",
                "service not found: no broker of this name was ever seen",
            )
        })?;
        selection.project = ProjectId::new(broker.project_id);
        selection.service = Some(broker.name.clone());
        Ok((vec![broker], selection))
    }
}

/// The age of the oldest picture among the brokers', in seconds, for the `Age` header.
pub fn age(brokers: &[Broker]) -> i64 {
    let now = OffsetDateTime::now_utc();
    let ages = brokers.iter().filter_map(|broker| broker.watch.seen);
    // A relay's clock may be ahead of ours.
    let ages = ages.map(|seen| (now - seen).whole_seconds().max(0));
    ages.max().unwrap_or(0)
}

/// A name in the path, counted from its end, decoded once. What cannot be decoded is no name.
pub fn name(req: &HttpRequest, from_end: usize) -> Option<String> {
    decoded(req.path().rsplit('/').nth(from_end)?)
}

fn decoded(segment: &str) -> Option<String> {
    let is_escape = |rest: &str| {
        let digits = rest.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !segment.split('%').skip(1).all(is_escape) {
        return None;
    }
    let text = percent_decode_str(segment).decode_utf8().ok()?;
    // Postgres cannot hold U+0000, so nothing is called so.
    (!text.is_empty() && !text.contains('\0')).then(|| text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_decoded_once_and_not_cleaned() {
        for (segment, name) in [
            ("a%2Fb", Some("a/b")),
            ("%2E%2E", Some("..")),
            ("..", Some("..")),
            ("a%25b", Some("a%b")),
            ("a%252Fb", Some("a%2Fb")),
            ("a+b", Some("a+b")),
            ("a%20b", Some("a b")),
            ("%C3%A9", Some("é")),
            ("%", None),
            ("a%2", None),
            ("a%zz", None),
            ("%FF", None),
            ("%00", None),
            ("", None),
        ] {
            assert_eq!(decoded(segment).as_deref(), name, "{segment}");
        }
    }
}

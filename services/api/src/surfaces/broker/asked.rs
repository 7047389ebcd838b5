//! What a list is asked for: its parameters as the contract reads them (§2.2, decisions 11, 12 and 23), and the tokens of its
//! pages.

use actix_web::HttpRequest;
use rollcall_store::brokers::Selection;
use rollcall_store::brokers::columns::CLIENT;
use rollcall_store::listing::Value;
use serde::Deserialize;
use utoipa::IntoParams;

use super::reach::Reach;
use crate::error::ApiError;
use crate::surfaces::resources::cursor::Seal;
use crate::surfaces::resources::parameters::Parameters;

/// Tokens begin with it.
const TOKEN_VERSION: char = '1';

/// Which broker.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the shape for the document; `Asked` reads it")]
pub struct OneBroker {
    /// One broker alone: the name of its service. All in reach where left out.
    #[param(example = "rabbit")]
    service: Option<String>,
}

/// What every list of this surface may be asked for.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the shape for the document; `Asked` reads them")]
pub struct ListParameters {
    /// Names that begin with this, byte by byte.
    prefix: Option<String>,
    /// Rows at most; 0, or left out, is no limit.
    #[param(minimum = 0, example = 100)]
    limit: Option<i64>,
    /// `next_page_token` of the page before, with the same parameters.
    page_token: Option<String>,
}

/// The parameters of a request, as sent.
pub struct Asked {
    parameters: Parameters,
}

/// One list that is asked for, read.
pub struct Wanted {
    pub selection: Selection,
    /// Rows at most, where there is a limit.
    pub limit: Option<u64>,
    /// Behind this name.
    pub after: Option<String>,
    seal: Seal,
}

impl Asked {
    pub fn of(req: &HttpRequest) -> Self {
        Self {
            parameters: Parameters::read(req.query_string()),
        }
    }

    /// The first value under a name; an empty one is none.
    fn get(&self, name: &'static str) -> Option<&str> {
        let first = self.parameters.all(name).next();
        first.filter(|value| !value.is_empty())
    }

    /// The broker that is named.
    pub fn service(&self) -> Option<&str> {
        self.get("service")
    }

    /// The whole of a list's parameters; `usual` is the state where none is asked for, `list` what the tokens are of.
    pub fn read(
        &self,
        reach: &Reach,
        selection: Selection,
        (list, usual): (&str, Option<bool>),
    ) -> Result<Wanted, ApiError> {
        let connected = match self.get("state").map(|state| state.trim().to_lowercase()) {
            None => usual,
            Some(state) => match state.as_str() {
                "" => usual,
                "all" => None,
                "connected" => Some(true),
                "disconnected" => Some(false),
                _ => {
                    return Err(ApiError::invalid(
                        "state_invalid",
                        "state must be one of: connected, disconnected, all",
                    ));
                }
            },
        };
        let limit = self.get("limit").map_or("", str::trim);
        let limit = match limit {
            "" => 0,
            text => text
                .parse::<i64>()
                .ok()
                .and_then(|limit| u64::try_from(limit).ok())
                .ok_or_else(|| {
                    ApiError::invalid("limit_invalid", "limit must be a non-negative integer")
                })?,
        };
        let prefix = self.get("prefix").unwrap_or_default().to_owned();
        if prefix.contains('\0') {
            return Err(ApiError::invalid(
                "prefix_invalid",
                "prefix must not have U+0000",
            ));
        }
        let project = selection.project.map(|project| project.to_string());
        let seal = Seal::new(reach.org(), "brokers")
            .and(list)
            .and(&format!("{connected:?}"))
            .and(&prefix)
            .and(selection.service.as_deref().unwrap_or_default())
            .and(&project.unwrap_or_default());
        let after = match self.get("page_token") {
            None => None,
            Some(token) => Some(
                read_token(&seal, token)
                    .ok_or_else(|| ApiError::invalid("page_token_invalid", "invalid page_token"))?,
            ),
        };
        Ok(Wanted {
            selection: Selection {
                connected,
                prefix,
                ..selection
            },
            limit: (limit > 0).then_some(limit),
            after,
            seal,
        })
    }
}

impl Wanted {
    /// The token of the page behind a name.
    pub fn token(&self, last: &str) -> String {
        let cursor = self.seal.write(&[Value::Text(last.to_owned())]);
        format!("{TOKEN_VERSION}{cursor}")
    }
}

/// The name that a token of this list has.
fn read_token(seal: &Seal, token: &str) -> Option<String> {
    let cursor = token.strip_prefix(TOKEN_VERSION)?;
    match seal.read(cursor, &[CLIENT])?.pop()? {
        // A token that somebody made may hold what Postgres cannot.
        Value::Text(name) => Some(name).filter(|name| !name.contains('\0')),
        _ => None,
    }
}

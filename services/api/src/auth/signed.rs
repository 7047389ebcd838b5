//! The forms vendor's signed scheme (forms-http contract §2.1, decision M2): the password of Basic is an HMAC over the
//! user's name and a timestamp header.
//!
//! Checking an HMAC takes the secret itself. So it is derived, with a secret of the configuration, from a salt in the
//! key's row: neither the database nor the configuration alone gives it away.

use aws_lc_rs::{constant_time, hmac};
use data_encoding::{BASE64, HEXLOWER};
use secrecy::{ExposeSecret, SecretString};

/// How far a request's clock may be off, in seconds.
pub const WINDOW_SECONDS: i64 = 300;

/// The secret of a signed key: 64 hexadecimal digits.
pub fn secret_of(configured: &SecretString, key_id: &str, salt: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, configured.expose_secret().as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(b"rollcall signed key\0");
    context.update(key_id.as_bytes());
    context.update(b"\0");
    context.update(salt);
    HEXLOWER.encode(context.sign().as_ref())
}

/// The password that `username` sends with `timestamp` (seconds since 1970, as written in the header).
pub fn password(username: &str, timestamp: &str, secret: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let message = format!("name:{username};timestamp:{timestamp};");
    BASE64.encode(hmac::sign(&key, message.as_bytes()).as_ref())
}

/// Whether `given` is that password.
pub fn matches(given: &str, username: &str, timestamp: &str, secret: &str) -> bool {
    let expected = password(username, timestamp, secret);
    constant_time::verify_slices_are_equal(given.as_bytes(), expected.as_bytes()).is_ok()
}

/// Whether `timestamp` is a number of seconds close enough to `now`.
pub fn is_fresh(timestamp: &str, now: i64) -> bool {
    timestamp
        .parse::<i64>()
        .is_ok_and(|at| at.abs_diff(now) <= WINDOW_SECONDS.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contracts_worked_example_comes_out() {
        assert_eq!(
            password("username", "123456789", "some-api-secret"),
            "gFUxSuDp1AexwedepvxGPOixhk4jsiinClqYGrjqkNc="
        );
    }

    #[test]
    fn a_timestamp_is_fresh_for_five_minutes_either_way() {
        assert!(is_fresh("1000", 1300) && is_fresh("1300", 1000));
        assert!(!is_fresh("1000", 1301) && !is_fresh("1301", 1000));
        assert!(
            !is_fresh("", 0)
                && !is_fresh("9223372036854775808", 0)
                && !is_fresh("-9223372036854775808", 0)
        );
    }
}

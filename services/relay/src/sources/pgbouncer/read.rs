//! What the console's answers mean. Pure.
//!
//! Invariant: a client is a session as long as PgBouncer lists it, under one name. What a column does not tell is absent.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use anyhow::{Context, Result, bail};
use rollcall_model::ServiceKind;
use rollcall_model::connection::MAX_ID_BYTES;
use rollcall_model::ingest::{Backend, ConnectionFacts, ConnectionKind, ConnectionSession};
use time::{Date, Duration, Month, OffsetDateTime, PrimitiveDateTime, Time, UtcOffset};

use crate::sources::{SeenService, Snapshot, bounds, zone};

/// The console itself, as PgBouncer lists it among the databases.
const CONSOLE: &str = "pgbouncer";
/// What stands where a client has not said who it is, or to which database it wants: one that asks for a cancellation.
const NO_USER: &str = "(nouser)";
const NO_DATABASE: &str = "(nodb)";
/// Bytes of a service's name that the cloud takes.
const MAX_SERVICE_BYTES: usize = 200;
/// Zones are a multiple of this away from UTC.
const QUARTER: i64 = 15 * 60;
/// How far PgBouncer's clock may be off before it is said.
const MAX_SKEW: Duration = Duration::minutes(7);

/// A row of an answer; columns by their names.
#[derive(Default)]
pub struct Row<'a> {
    values: Vec<(&'a str, &'a [u8])>,
}

impl<'a> Row<'a> {
    pub fn push(&mut self, name: &'a str, value: &'a [u8]) {
        self.values.push((name, value));
    }

    /// A value as text, whatever its bytes; nothing where the column is missing, or empty.
    fn text(&self, name: &str) -> Option<String> {
        let (_, value) = self.values.iter().find(|(column, _)| *column == name)?;
        (!value.is_empty()).then(|| String::from_utf8_lossy(value).into_owned())
    }

    fn needed(&self, name: &str) -> Result<String> {
        if let Some(value) = self.text(name) {
            return Ok(value);
        }
        if self.values.iter().any(|(column, _)| *column == name) {
            bail!("the column `{name}` is empty in a row");
        }
        bail!("there is no column `{name}`: is this PgBouncer's console?")
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.text(name)?.parse().ok()
    }

    fn is_set(&self, name: &str) -> bool {
        self.text(name)
            .is_some_and(|value| value != "0" && value != "no")
    }
}

/// A time as printed: without a zone's meaning yet.
#[derive(Clone, Copy)]
struct Stamp {
    at: PrimitiveDateTime,
    /// Which of the zones that were met.
    zone: usize,
}

struct Client {
    pool: (String, String),
    session: ConnectionSession,
    connected: Stamp,
    idle: Option<Stamp>,
}

#[derive(Default)]
struct Database {
    force_user: Option<String>,
    paused: bool,
    disabled: bool,
}

/// What the console has told so far.
pub struct Picture {
    own_user: String,
    utc_offset: Option<UtcOffset>,
    version: Option<String>,
    /// How PgBouncer as a whole stands, where its version tells.
    state: Option<String>,
    databases: HashMap<String, Database>,
    pools: BTreeSet<(String, String)>,
    /// By their addresses in PgBouncer's memory, which are unique at one moment.
    servers: HashMap<String, Backend>,
    clients: Vec<Client>,
    /// Their names.
    taken: HashSet<String>,
    zones: Vec<String>,
    /// Our own request, by PgBouncer's clock.
    asked: Option<Stamp>,
    /// Clients that are left out since their names are too long, or are another's too.
    unnamed: usize,
}

impl Picture {
    pub fn new(own_user: &str, utc_offset: Option<UtcOffset>) -> Self {
        Self {
            own_user: own_user.to_owned(),
            utc_offset,
            version: None,
            state: None,
            databases: HashMap::new(),
            pools: BTreeSet::new(),
            servers: HashMap::new(),
            clients: Vec::new(),
            taken: HashSet::new(),
            zones: Vec::new(),
            asked: None,
            unnamed: 0,
        }
    }

    /// A row of `SHOW VERSION`: `PgBouncer 1.18.0`.
    pub fn version(&mut self, row: &Row<'_>) -> Result<()> {
        let said = row.needed("version")?;
        let number = said.strip_prefix("PgBouncer ").unwrap_or(&said);
        self.version = Some(number.to_owned());
        Ok(())
    }

    /// A row of `SHOW STATE`: `active`, `paused` and `suspended`, each yes or no.
    pub fn state(&mut self, row: &Row<'_>) -> Result<()> {
        if row.needed("value")? == "yes" {
            self.state = Some(row.needed("key")?);
        }
        Ok(())
    }

    /// A row of `SHOW DATABASES`.
    pub fn database(&mut self, row: &Row<'_>) -> Result<()> {
        let database = Database {
            force_user: row.text("force_user"),
            paused: row.is_set("paused"),
            disabled: row.is_set("disabled"),
        };
        self.databases.insert(row.needed("name")?, database);
        Ok(())
    }

    /// A row of `SHOW POOLS`.
    pub fn pool(&mut self, row: &Row<'_>) -> Result<()> {
        let database = row.needed("database")?;
        if database != CONSOLE {
            self.pools.insert((database, row.needed("user")?));
        }
        Ok(())
    }

    /// A row of `SHOW SERVERS`: what clients may be linked to.
    pub fn server(&mut self, row: &Row<'_>) -> Result<()> {
        let (address, port) = (row.needed("addr")?, row.number("port"));
        let backend = Backend {
            server: place(&address, port.unwrap_or_default()),
            // The process that serves it: what `pg_stat_activity` knows it by.
            id: row.text("remote_pid").filter(|pid| pid != "0"),
            state: row.text("state"),
            cipher: row.text("tls"),
        };
        self.servers.insert(row.needed("ptr")?, backend);
        Ok(())
    }

    /// A row of `SHOW CLIENTS`.
    pub fn client(&mut self, row: &Row<'_>) -> Result<()> {
        let database = row.needed("database")?;
        let user = row.text("user").filter(|user| user != NO_USER);
        let connected = self.stamp(&row.needed("connect_time")?)?;
        if database == CONSOLE {
            if user.as_ref() == Some(&self.own_user) {
                self.note_own_request(row)?;
            }
            return Ok(());
        }
        let forced = self.databases.get(&database);
        let forced = forced.and_then(|database| database.force_user.clone());
        // A request to cancel is no session where nobody knows whose it is.
        let Some(pool_user) = forced.or_else(|| user.clone()) else {
            return Ok(());
        };
        if database == NO_DATABASE {
            return Ok(());
        }
        let (address, port) = (row.needed("addr")?, row.number::<u16>("port"));
        let source_id = match row.text("id") {
            Some(id) => id,
            None => self.name_of(row, &address, connected)?,
        };
        let is_new = self.taken.insert(source_id.clone());
        let idle = self.idle(row)?;
        let facts = ConnectionFacts {
            state: Some(row.needed("state")?),
            protocol: Some("postgres".to_owned()),
            // Over a Unix socket it is PgBouncer's own.
            port: port.filter(|_| !is_socket(&address)),
            database: Some(database.clone()),
            cipher: row.text("tls"),
            backends: self.linked(row),
            ..ConnectionFacts::default()
        };
        let session = bounds::fit(ConnectionSession {
            source_id,
            kind: ConnectionKind::Proxy,
            label: row.text("application_name"),
            user,
            remote: Some(address),
            facts,
        });
        match session.filter(|_| is_new) {
            Some(session) => self.clients.push(Client {
                pool: (database, pool_user),
                session,
                connected,
                idle,
            }),
            None => self.unnamed += 1,
        }
        Ok(())
    }

    /// What to call a client where the version has no `id`, which is never used again. `ptr` is, by
    /// another client; so it is where the client comes from, and when it connected, as printed.
    fn name_of(&self, row: &Row<'_>, address: &str, connected: Stamp) -> Result<String> {
        let from = if is_socket(address) {
            format!("{address}:{}", row.needed("ptr")?)
        } else {
            place(address, row.number("port").unwrap_or_default())
        };
        let (date, time) = (connected.at.date(), connected.at.time());
        Ok(format!(
            "{from}@{date}T{:02}:{:02}:{:02}",
            time.hour(),
            time.minute(),
            time.second()
        ))
    }

    /// The server that works for the client: none, or one; unknown where it was not listed a moment before.
    fn linked(&self, row: &Row<'_>) -> Option<Vec<Backend>> {
        match row.text("link") {
            None => Some(Vec::new()),
            Some(link) => (self.servers.get(&link)).map(|server| vec![server.clone()]),
        }
    }

    /// Since when nothing is being done for the client: its last request, as long as no request waits or runs.
    fn idle(&mut self, row: &Row<'_>) -> Result<Option<Stamp>> {
        let state = row.text("state").unwrap_or_default();
        let is_busy = row.is_set("wait") || row.is_set("wait_us");
        let knows = row.text("wait").is_some();
        if !knows || is_busy || !["active", "idle"].contains(&state.as_str()) {
            return Ok(None);
        }
        let said = row.text("request_time");
        said.map(|said| self.stamp(&said)).transpose()
    }

    /// Of several consoles of our user, the request that is being answered is the latest.
    fn note_own_request(&mut self, row: &Row<'_>) -> Result<()> {
        let asked = self.stamp(&row.needed("request_time")?)?;
        if self.asked.is_none_or(|before| before.at < asked.at) {
            self.asked = Some(asked);
        }
        Ok(())
    }

    /// `2026-11-21 10:33:59 UTC`; without the zone in old versions.
    fn stamp(&mut self, text: &str) -> Result<Stamp> {
        let wrong = || format!("a time reads {text:?}, not as 2026-11-21 10:33:59");
        let (date, rest) = text.split_once(' ').with_context(wrong)?;
        let (time, zone) = rest.split_once(' ').unwrap_or((rest, ""));
        let at = date_time(date, time).with_context(wrong)?;
        let known = self.zones.iter().position(|known| known == zone);
        let zone = known.unwrap_or_else(|| {
            self.zones.push(zone.to_owned());
            self.zones.len() - 1
        });
        Ok(Stamp { at, zone })
    }

    /// All of it, as of `now`.
    pub fn snapshot(mut self, prefix: &str, now: OffsetDateTime) -> Snapshot {
        let clock = self.clock(now);
        let mut trouble = clock.trouble.clone();
        if self.unnamed > 0 {
            trouble.push(format!(
                "{} clients are left out: their ids have more than {MAX_ID_BYTES} bytes, or are another's too",
                self.unnamed
            ));
        }
        let mut pools: BTreeMap<(String, String), Vec<ConnectionSession>> = BTreeMap::new();
        for pool in std::mem::take(&mut self.pools) {
            pools.insert(pool, Vec::new());
        }
        for mut client in std::mem::take(&mut self.clients) {
            client.session.facts.connected_at = clock.time(client.connected);
            client.session.facts.idle_since = client.idle.and_then(|idle| clock.time(idle));
            pools.entry(client.pool).or_default().push(client.session);
        }
        let found = pools.len();
        let services: Vec<SeenService> = pools
            .into_iter()
            .filter_map(|((database, user), connections)| {
                let name = format!("{prefix}{database}/{user}");
                let is_fine =
                    name.len() <= MAX_SERVICE_BYTES && !name.chars().any(char::is_control);
                is_fine.then(|| SeenService {
                    name,
                    kind: ServiceKind::Proxy,
                    state: self.state_of(&database),
                    broker: None,
                    connections,
                })
            })
            .collect();
        if services.len() < found {
            trouble.push(format!(
                "{} pools are left out: with the prefix, their names have more than {MAX_SERVICE_BYTES} bytes, or control \
                 characters",
                found - services.len()
            ));
        }
        Snapshot {
            version: self.version,
            services,
            trouble: (!trouble.is_empty()).then(|| trouble.join("; ")),
        }
    }

    /// How a database's pools stand. Versions without `SHOW STATE` do not tell whether PgBouncer is paused as a whole, so
    /// then it is not said to be active; that the database is not disabled is known.
    fn state_of(&self, database: &str) -> Option<String> {
        match self.databases.get(database) {
            Some(database) if database.disabled => Some("disabled".to_owned()),
            Some(database) if database.paused => Some("paused".to_owned()),
            Some(_) if self.state.is_none() => Some("enabled".to_owned()),
            _ => self.state.clone(),
        }
    }

    /// What the zones mean that times were printed in. One that has only a name, or none, is as far from UTC as our own
    /// request, if that is printed in it: it is being made now.
    fn clock(&self, now: OffsetDateTime) -> Clock {
        let mut trouble = Vec::new();
        let ahead = self
            .asked
            .map(|asked| (asked.zone, asked.at.assume_utc() - now));
        let mut offsets = Vec::with_capacity(self.zones.len());
        for (place, zone) in self.zones.iter().enumerate() {
            let own = ahead.filter(|(own, _)| *own == place);
            let own = own.and_then(|(_, ahead)| nearest_offset(ahead));
            let said = named(zone).or(self.utc_offset);
            if said.is_none() && own.is_none() {
                let zone = if zone.is_empty() { "no zone" } else { zone };
                trouble.push(format!(
                    "times in {zone} cannot be placed: set `utc_offset` to its difference to UTC"
                ));
            }
            offsets.push(said.or(own));
        }
        if let Some((zone, ahead)) = ahead
            && let Some(offset) = offsets[zone]
        {
            let skew = ahead - Duration::seconds(offset.whole_seconds().into());
            if skew.abs() > MAX_SKEW {
                trouble.push(format!(
                    "PgBouncer's clock is {} s from this machine's: set the clocks, or correct `utc_offset` ({offset})",
                    skew.whole_seconds()
                ));
            }
        }
        Clock { offsets, trouble }
    }
}

struct Clock {
    /// Of each zone that was met.
    offsets: Vec<Option<UtcOffset>>,
    trouble: Vec<String>,
}

impl Clock {
    /// The moment; unknown where the zone is.
    fn time(&self, stamp: Stamp) -> Option<OffsetDateTime> {
        Some(stamp.at.assume_offset(self.offsets[stamp.zone]?))
    }
}

/// PgBouncer says `unix`, or `unix(1234@host)`.
fn is_socket(address: &str) -> bool {
    address.starts_with("unix")
}

/// An address with its port.
fn place(address: &str, port: u16) -> String {
    if address.contains(':') {
        format!("[{address}]:{port}")
    } else {
        format!("{address}:{port}")
    }
}

fn date_time(date: &str, time: &str) -> Option<PrimitiveDateTime> {
    let mut date = date.splitn(3, '-');
    let year = date.next()?.parse().ok()?;
    let month: u8 = date.next()?.parse().ok()?;
    let day = date.next()?.parse().ok()?;
    let date = Date::from_calendar_date(year, Month::try_from(month).ok()?, day).ok()?;
    let mut time = time.splitn(3, ':').map(str::parse::<u8>);
    let (hour, minute, second) = (time.next()?.ok()?, time.next()?.ok()?, time.next()?.ok()?);
    let time = Time::from_hms(hour, minute, second.min(59)).ok()?;
    Some(PrimitiveDateTime::new(date, time))
}

/// What a zone's name says by itself. `CET` says nothing: `CST` is at home in three places.
fn named(name: &str) -> Option<UtcOffset> {
    match name {
        "UTC" | "GMT" => Some(UtcOffset::UTC),
        _ => zone::offset(name),
    }
}

fn nearest_offset(ahead: Duration) -> Option<UtcOffset> {
    let half = if ahead.is_negative() {
        -QUARTER / 2
    } else {
        QUARTER / 2
    };
    let seconds = (ahead.whole_seconds() + half) / QUARTER * QUARTER;
    UtcOffset::from_whole_seconds(i32::try_from(seconds).ok()?).ok()
}

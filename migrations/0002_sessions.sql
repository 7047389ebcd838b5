-- Sessions as they stand, every event that made them so, and the files that hang on them.

create table sessions (
    org_id uuid not null,
    id uuid not null,
    project_id bigint not null,
    service text not null,
    kind text not null,
    source_id text not null,
    unit_id text not null,
    created_at timestamptz not null,
    saved_at timestamptz not null,
    received_at timestamptz not null,
    received_from text not null,
    deleted boolean not null,
    points jsonb not null,
    revision bigint not null,
    primary key (org_id, id),
    foreign key (org_id, service) references services
);

create index sessions_by_save on sessions (org_id, project_id, deleted, saved_at, id);

-- The outbox of every feed. A reader's cursor is (txid, id), read below pg_snapshot_xmin, so that a slow transaction
-- is never skipped.
create table events (
    org_id uuid not null,
    session_id uuid not null,
    revision bigint not null,
    id bigint not null generated always as identity,
    txid xid8 not null default pg_current_xact_id(),
    type text not null,
    project_id bigint not null,
    service text not null,
    kind text not null,
    at timestamptz not null,
    saved_at timestamptz not null,
    -- The session as it was after this event, and what its source said of the change.
    session jsonb not null,
    context jsonb,
    primary key (org_id, session_id, revision),
    foreign key (org_id, session_id) references sessions
);

create index events_feed on events (org_id, txid, id);
-- A late repeat is found by the save time that it names.
create index events_by_save on events (org_id, session_id, saved_at);

create table attachments (
    org_id uuid not null,
    id uuid not null,
    project_id bigint not null,
    session_id uuid not null,
    point text not null,
    filename text not null,
    content_type text not null,
    length bigint not null,
    md5 text not null,
    sha256 text not null,
    created_at timestamptz not null default now(),
    -- Since when the session no longer holds it; its object is swept some time later.
    retired_at timestamptz,
    primary key (org_id, id),
    foreign key (org_id, session_id) references sessions
);

create unique index attachments_current on attachments (org_id, session_id, point) where retired_at is null;
create index attachments_retired on attachments (org_id, retired_at) where retired_at is not null;

-- Answers already given, so that a repeated request gets the same one.
create table idempotency_keys (
    org_id uuid not null references organizations,
    key_id text not null,
    key text not null,
    fingerprint bytea not null,
    status smallint,
    body bytea,
    created_at timestamptz not null default now(),
    primary key (org_id, key_id, key)
);

create index idempotency_keys_by_age on idempotency_keys (org_id, created_at);

alter table sessions enable row level security;
alter table sessions force row level security;
create policy tenant on sessions to rollcall_app
    using (org_id = any ((select string_to_array(current_setting('app.orgs'), ',')::uuid[])::uuid[]));

alter table events enable row level security;
alter table events force row level security;
create policy tenant on events to rollcall_app
    using (org_id = any ((select string_to_array(current_setting('app.orgs'), ',')::uuid[])::uuid[]));

alter table attachments enable row level security;
alter table attachments force row level security;
create policy tenant on attachments to rollcall_app
    using (org_id = any ((select string_to_array(current_setting('app.orgs'), ',')::uuid[])::uuid[]));

alter table idempotency_keys enable row level security;
alter table idempotency_keys force row level security;
create policy tenant on idempotency_keys to rollcall_app
    using (org_id = any ((select string_to_array(current_setting('app.orgs'), ',')::uuid[])::uuid[]));

grant select, insert, update on sessions to rollcall_app;
grant select, insert on events to rollcall_app;
grant select, insert, update, delete on attachments, idempotency_keys to rollcall_app;

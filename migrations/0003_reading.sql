-- What the reading side filters, sorts and pages by; what a service counts; an order of events that holds per session.
--
-- The defaults are for replicas of the version before, which write on while a rollout lasts.

alter table sessions
    -- How the session stands, in its kind's words; and whether it still goes on.
    add column state text not null default 'saved',
    add column active boolean not null default true,
    -- What a session is called, whose it is, and where it comes from; null where its source does not know.
    add column label text,
    add column username text,
    add column remote text,
    -- About what the session takes in a reader's memory, in bytes: a page is full by rows or by this.
    add column footprint bigint not null default 65536,
    -- Where its last event stands in the feed: see events.txid.
    add column event_txid xid8 not null default pg_current_xact_id();

alter table events
    -- What differs from the revision before, as JSON pointers; the whole ("") where there is none before.
    add column changed text[] not null default '{}',
    add column footprint bigint not null default 65536;

-- A session's events must stand in the feed in the order of their revisions. A transaction may get its number before
-- the lock on a session that a later one holds, so an event's is at least that of the event before it; the session's row
-- has the last.
comment on column events.txid is 'the transaction, or that of the session''s event before where it is later';

alter table services add column state text not null default 'Started';

-- How many sessions a service has. Several rows a service: a writer takes one that no other transaction holds, so that
-- writers never wait for each other; the sum is the count.
create table service_counts (
    org_id uuid not null,
    service text not null,
    slot uuid not null default gen_random_uuid(),
    active bigint not null,
    total bigint not null,
    primary key (org_id, service, slot),
    foreign key (org_id, service) references services
);

-- The owner is held to row-level security too, and sees no tenant here.
alter table sessions no force row level security;
alter table events no force row level security;
update sessions set state = case when deleted then 'deleted' else 'saved' end, active = not deleted,
    footprint = octet_length(points::text) + 256 * (1 + (select count(*) from jsonb_object_keys(points)));
-- What a later revision changed is not known any more.
update events set changed = case revision when 1 then array[''] else '{}' end,
    footprint = octet_length(session::text) + 256 * (1 + (select count(*) from jsonb_object_keys(session -> 'points')));
insert into service_counts (org_id, service, active, total)
    select org_id, service, count(*) filter (where active), count(*) from sessions group by org_id, service;
alter table sessions force row level security;
alter table events force row level security;

-- One index for each key that a listing is sorted by, and one in the usual order for each that it is narrowed to.
create index sessions_by_start on sessions (org_id, created_at, id);
create index sessions_by_update on sessions (org_id, received_at, id);
create index sessions_by_source on sessions (org_id, source_id collate "C", id);
create index sessions_by_project on sessions (org_id, project_id, created_at, id);
create index sessions_by_service on sessions (org_id, service, created_at, id);
create index sessions_by_kind on sessions (org_id, kind, created_at, id);
create index sessions_by_state on sessions (org_id, state, created_at, id);
create index sessions_by_active on sessions (org_id, active, created_at, id);
create index sessions_by_unit on sessions (org_id, unit_id, created_at, id);
create index sessions_by_label on sessions (org_id, label, created_at, id) where label is not null;
create index sessions_by_user on sessions (org_id, username, created_at, id) where username is not null;

-- Made anew, so that it comes after them: between indexes that seem equally good, as all do on an empty table, Postgres
-- takes the last, and keeps the plan until the table is analyzed.
alter table events drop constraint events_org_id_session_id_fkey;
alter table attachments drop constraint attachments_org_id_session_id_fkey;
alter table sessions drop constraint sessions_pkey;
alter table sessions add primary key (org_id, id);
alter table events add foreign key (org_id, session_id) references sessions;
alter table attachments add foreign key (org_id, session_id) references sessions;

create index services_by_name on services (org_id, name collate "C");
create index services_by_project on services (org_id, project_id, name collate "C");

create index events_by_project on events (org_id, project_id, txid, id);
create index events_by_service on events (org_id, service, txid, id);
create index events_by_kind on events (org_id, kind, txid, id);
create index events_by_type on events (org_id, type, txid, id);

alter table service_counts enable row level security;
alter table service_counts force row level security;
create policy tenant on service_counts to rollcall_app
    using (org_id = any ((select string_to_array(current_setting('app.orgs'), ',')::uuid[])::uuid[]));
grant select, insert, update on service_counts to rollcall_app;

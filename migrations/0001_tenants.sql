-- Who owns what: organizations, their projects and services, and the keys that open them.
--
-- Roles are cluster-wide and made by the bootstrap, not here: rollcall_app works inside one set of organizations,
-- rollcall_system reads the directory (which organizations and keys there are) before an organization is known.

create table organizations (
    org_id uuid primary key,
    name text not null unique,
    created_at timestamptz not null default now()
);

create table projects (
    org_id uuid not null references organizations,
    project_id bigint not null generated always as identity,
    name text not null,
    created_at timestamptz not null default now(),
    primary key (org_id, project_id)
);

create table services (
    org_id uuid not null references organizations,
    name text not null,
    project_id bigint not null,
    kind text not null,
    created_at timestamptz not null default now(),
    primary key (org_id, name),
    foreign key (org_id, project_id) references projects
);

create table api_keys (
    org_id uuid not null references organizations,
    id text not null,
    project_id bigint,
    name text not null,
    permissions text[] not null,
    -- SHA-256 of the secret; or, for a key of the signed scheme, the salt that its secret is derived with.
    secret_hash bytea,
    signed_salt bytea,
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz,
    primary key (org_id, id),
    foreign key (org_id, project_id) references projects,
    check ((secret_hash is null) <> (signed_salt is null))
);

-- An unset `app.orgs` is an error on a fresh connection; the empty string that a used connection keeps is the empty
-- set. Neither shows a row. The outer cast keeps the index on (org_id, ..) usable.
alter table organizations enable row level security;
alter table organizations force row level security;
create policy tenant on organizations to rollcall_app
    using (org_id = any ((select string_to_array(current_setting('app.orgs'), ',')::uuid[])::uuid[]));
create policy directory on organizations to rollcall_system using (true) with check (true);

alter table projects enable row level security;
alter table projects force row level security;
create policy tenant on projects to rollcall_app
    using (org_id = any ((select string_to_array(current_setting('app.orgs'), ',')::uuid[])::uuid[]));

alter table services enable row level security;
alter table services force row level security;
create policy tenant on services to rollcall_app
    using (org_id = any ((select string_to_array(current_setting('app.orgs'), ',')::uuid[])::uuid[]));

alter table api_keys enable row level security;
alter table api_keys force row level security;
create policy tenant on api_keys to rollcall_app
    using (org_id = any ((select string_to_array(current_setting('app.orgs'), ',')::uuid[])::uuid[]));
create policy directory on api_keys for select to rollcall_system using (true);

grant select on organizations to rollcall_app;
grant select, insert on projects, services to rollcall_app;
grant select, insert, update on api_keys to rollcall_app;
grant select, insert on organizations to rollcall_system;
grant select on api_keys to rollcall_system;
-- `serve` compares the schema with the one it was built for.
grant select on _sqlx_migrations to rollcall_system;

// A vendor's day with the generated TypeScript client: authenticate, create a form with a photo, page through the sessions,
// follow the feed, read the photo back. Takes the file that `rollcall up --ready-file` writes, and a photo.
import { strict as assert } from "node:assert";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import {
    Configuration,
    CredentialsApi,
    FormsApi,
    ResourcesApi,
    type EventResource,
    type SessionResource,
} from "../../../clients/typescript/src";

const [readyFile, photoFile] = process.argv.slice(2);
const ready = JSON.parse(readFileSync(readyFile, "utf8"));
const photo = readFileSync(photoFile);
const projectId: number = ready.project_id;

/** The cursor in a link of a page. */
function cursor(link: string | undefined): string | undefined {
    return link === undefined ? undefined : (new URL(link).searchParams.get("page[after]") ?? undefined);
}

async function main(): Promise<void> {
    const key = new Configuration({
        basePath: ready.http,
        username: ready.api_key.id,
        password: ready.api_key.secret,
    });
    const { meta } = await new CredentialsApi(key).createToken({ maxAge: 600 });
    const bearer = new Configuration({ basePath: ready.http, accessToken: meta.token });
    const forms = new FormsApi(bearer);
    const resources = new ResourcesApi(bearer);

    const before = await resources.listEvents({ from: "now" });
    const names = [randomUUID(), randomUUID(), randomUUID()];
    for (const uuid of names) {
        await forms.createSession({
            projectId,
            idempotencyKey: uuid,
            sessionEnvelope: { session: { uuid, unitId: "typescript", data: { remark: "checked" } } },
        });
    }
    await forms.putAttachment({ projectId, uuid: names[0], point: "photo", filename: "photo.jpg", body: new Blob([photo]) });

    // Every session, two at a time.
    const seen: SessionResource[] = [];
    let after: string | undefined;
    do {
        const page = await resources.listAllSessions({ pageSize: 2, pageAfter: after, filterUnitId: "typescript" });
        assert(page.data.length <= 2);
        seen.push(...page.data);
        after = cursor(page.links.next);
    } while (after !== undefined);
    for (const uuid of names) {
        assert.equal(seen.filter((session) => session.attributes?.sourceId === uuid).length, 1);
    }

    // What happened since, until the photo is there.
    const events: EventResource[] = [];
    after = cursor(before.links.next);
    while (!events.some((event) => event.attributes?.eventType === "attached")) {
        const page = await resources.listEvents({ pageAfter: after, wait: 10, filterProject: projectId, filterKind: "form" });
        events.push(...page.data);
        after = cursor(page.links.next);
    }
    const created = events.filter((event) => event.attributes?.eventType === "created");
    assert.deepEqual(created.map((event) => event.attributes?.session.attributes?.sourceId), names);

    const session = (await resources.getSession({ id: names[0], include: "attachments" })).data;
    const attachmentId = session.relationships?.attachments?.data?.[0].id;
    assert(attachmentId !== undefined);
    const file = (await resources.getAttachmentResource({ attachmentId })).data;
    assert.equal(file.attributes?.length, photo.length);
    const bytes = await resources.getAttachmentContent({ attachmentId });
    assert(photo.equals(Buffer.from(await bytes.arrayBuffer())));
    console.log(`typescript: ${seen.length} sessions, ${events.length} events, ${photo.length} bytes read back`);
}

main().catch((error: unknown) => {
    console.error(error);
    process.exitCode = 1;
});

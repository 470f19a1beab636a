// tus: an upload in pieces that is resumed, by PATCH or by POST with X-HTTP-Method-Override.
import { FileStore } from "@tus/file-store";
import { Server } from "@tus/server";
import { randomBytes } from "node:crypto";
import { Upload } from "tus-js-client";
import { bearer, doDeeds, serve } from "./deeds.mjs";

const { folder } = JSON.parse(process.argv[2]);
const tus = new Server({ path: "/files", datastore: new FileStore({ directory: folder }) });
const seen = [];
const { port } = await serve((request, response) => {
  const override = request.headers["x-http-method-override"] ?? null;
  seen.push([request.method, override, bearer(request.headers)]);
  request.method = override ?? request.method; // left to middleware, as Express has it
  tus.handle(request, response);
});

/** Uploads; stops after the first piece where `stopping`. Returns the upload's address. */
function upload(content, options, stopping) {
  return new Promise((done, failed) => {
    const one = new Upload(content, {
      ...options,
      chunkSize: 1000,
      retryDelays: null,
      onError: failed,
      onSuccess: () => done(one.url),
      onChunkComplete: () => {
        if (stopping) one.abort().then(() => done(one.url));
      },
    });
    one.start();
  });
}

await doDeeds(port, {
  async resume({ url, cookie, override }) {
    seen.length = 0;
    const content = randomBytes(5000);
    const options = { headers: { cookie }, overridePatchMethod: override };
    const where = await upload(content, { ...options, endpoint: url }, true);
    await upload(content, { ...options, uploadUrl: where }, false);
    const stored = tus.datastore.read(new URL(where).pathname.split("/").at(-1));
    const whole = Buffer.concat(await stored.toArray()).equals(content);
    return { where, whole, seen };
  },
});

// Socket.IO: polling first, then the upgrade to a WebSocket.
import { Server } from "socket.io";
import { io } from "socket.io-client";
import { bearer, doDeeds, serve } from "./deeds.mjs";

const { server, port } = await serve((_, response) => response.writeHead(404).end());
const sockets = new Server(server, { pingInterval: 500 });
sockets.on("connection", (socket) => {
  socket.on("whoami", (answer) => answer(bearer(socket.handshake.headers)));
});

let socket, ended;
const once = (source, name) => new Promise((done) => source.once(name, (...told) => done(told)));

await doDeeds(port, {
  /** Connects; returns by which transports, and whose token the server was given. */
  async connect({ url, cookie, origin }) {
    const extraHeaders = { cookie, origin };
    socket = io(url, { extraHeaders, reconnectionDelay: 100, reconnectionDelayMax: 100 });
    const failed = once(socket, "connect_error").then(([error]) => error);
    const engine = socket.io.engine;
    const first = engine.transport.name;
    const upgraded = once(engine, "upgrade");
    const error = await Promise.race([failed, once(socket, "connect").then(() => null)]);
    if (error !== null) throw error;
    await upgraded;
    ended = once(socket, "disconnect");
    const token = await new Promise((done) => socket.emit("whoami", done));
    return { transports: [first, engine.transport.name], token };
  },
  /** Waits for the connection's end, and for what becomes of the attempt to have it back. */
  async ending() {
    const refused = once(socket, "connect_error");
    const [reason] = await ended;
    const [error] = await refused;
    socket.close();
    return { reason, status: error.description ?? null };
  },
});

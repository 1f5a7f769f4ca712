/**
 * Node's own http. An `import` of "node:http" reads each of its exports to make a module of it, and one of them, WebSocket,
 * loads all of undici: 50 ms of processor time and 14 MB for every command and agent, which need none of it.
 */
export const http = process.getBuiltinModule("node:http");

// What the nginx tests talk to. Each path makes one thing visible that nginx does on the way.
const release = process.env.RELEASE ?? "";

const server: Bun.Server<undefined> = Bun.serve({
  port: 3000,
  async fetch(request): Promise<Response | undefined> {
    const { pathname, searchParams } = new URL(request.url);
    if (pathname === "/socket")
      return server.upgrade(request) ? undefined : new Response("no upgrade", { status: 400 });
    if (pathname === "/large")
      return new Response("0123456789".repeat(10_000), { headers: { "content-type": "text/plain" } });
    if (pathname === "/slow") await Bun.sleep(Number(searchParams.get("milliseconds")));
    if (pathname === "/silent") {
      // Closes the connection after a second, without an answer.
      server.timeout(request, 1);
      await Bun.sleep(10_000);
    }
    if (pathname === "/framed") return new Response("framed", { headers: { "x-frame-options": "DENY" } });
    const body = await request.text();
    return Response.json({
      release,
      method: request.method,
      bytes: body.length,
      headers: Object.fromEntries(request.headers),
    });
  },
  websocket: {
    message: (socket, message) => void socket.send(`${release}: ${message}`),
  },
});

// As a real app does: no new connections, requests in flight are finished.
process.on("SIGTERM", async () => {
  await server.stop();
  process.exit(0);
});

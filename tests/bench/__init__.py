"""The bench: how fast the gateway is, beside the proxies that people know, on the same machine and backend.

    make bench                                      all of it (about half an hour)
    .venv/bin/python -m tests.bench --quick         all of it, short and rough (six minutes)
    .venv/bin/python -m tests.bench --only table    one part: proxy, download, latency, idle, tls, token,
                                                    table, reload, workers, shields, shared, admission,
                                                    isolation or documents
    .venv/bin/python -m tests.bench --compare A B   two results (var/bench/*.json) side by side

How to read it
--------------
proxy   GETs with a 150-byte JSON answer, then POSTs of 4 KiB, over 32 kept connections, closed loop: each
        connection sends its next request when the answer is there, so requests/s is what the tested server
        can do, and the latencies are those of a server at its limit. Each contender has core 0 to itself
        while it is tested; the load generator and the backend share core 1. In each round all contenders
        take their turn, so that a slow minute of the machine hits all of them. `ratio` is the gateway's
        requests/s divided by the contender's in the same round: the median over the rounds, then the
        smallest and the largest. 0.50 means half as fast.
        A turn is void when the tested server was under 95 % busy (something else was the limit), when the
        load core was over 95 % busy (it may have been the limit), or when a request failed. Void turns take
        no part in the figures; a contender whose turns are all void is marked with ~ and proves nothing:
        it could have been faster.
        `direct` is the backend without a proxy, the load generator's and the backend's own limit.
        The policies are not all alike: below the table stands what each contender does. Their configs are
        in conf/. HAProxy verifies the token on each request, the gateway caches verified tokens.
        `client` is what one writes first: a few lines on aiohttp's ClientSession.
download  Answers of 10 MiB, 8 at once, by turns and with the same rules. Where the load core is the limit,
        look at MiB per CPU second of the tested server.
latency 1,000 requests/s by h2load on a fixed schedule, its 20 connections a millisecond apart. What counts
        is what each adds to `direct` in the same round.
idle    Connections that each served one request and stay open: memory of the gateway's processes (Pss),
        less what it was before, for each. A second wave shows whether what the first left is used again.
        The kernel's own memory for a socket is not in it.
tls     GETs over kept connections with TLS 1.3 beside plain ones, by turns, to the same gateway, as in proxy.
        Full handshakes (openssl s_time, 4 clients, ECDSA P-256) beside HAProxy, for each second of the
        server's CPU. Connections as in idle, with TLS.
token   What Keys.verify takes for a token that it has not seen, beside jwt.decode with the same key and
        checks, in this process, by turns.
table   What one match costs in the routing table, in nanoseconds, with 10, 1,000 and 10,000 routes. `hot`:
        a hundred paths take all the requests, so that what grows is the algorithm's. `all`: each route is
        as likely as any other, so that the processor's caches miss more the larger the table is.
reload  200 requests/s on a fixed schedule (open loop: a late answer counts from when its request was due)
        through 1,000 routes, with and without an edit of routing.yaml each half second; the phases
        alternate. `live` is the time from the edit until a request takes the new route. Nothing is pinned
        here: the gateway parses an edit beside the requests, in a process of its own.
workers Two workers beside one process, and beside two gateways of one process each that share nothing
        (`apart`): what the machine gives to two busy processes at best. 32 connections for each process that
        serves, all through one backend; no process of a gateway is pinned. Requests for a second of CPU of
        all its processes, the master's too, by turns whose order alternates, eight rounds unless --rounds
        says more or less. Then the two workers are replaced 20 times by SIGHUP while 20 clients on kept
        connections and 20 on new ones ask 25 times a second each; none tries again.
shields A threaded app (gunicorn, 8 threads; a view waits 10 ms) behind the gateway, behind nginx, and on its
        own. A normal client (4 connections, closed loop) alone, then beside slow uploads (64 KiB at 1 KiB/s)
        and slow readers (1 MiB at 10 KiB/s); after the measured stretch the slow ones hurry and must end
        whole. The app counts how many requests are inside it; with 8 threads there cannot be more, so
        `64 clients` gives it 16 and tells the gateway of 8. Slow heads: a byte a second; they must get 408.
        Paced requests: each client has an address of the app to itself, so that its connection there is idle
        as long as the client pauses, and gunicorn may close it (after 2 s) while a request is on its way.
shared  GETs with a tenant's limit: leased from Redis by one process, beside one that counts itself (local);
        leased from the master by two workers, beside two that have none to count. Requests for each second
        of the gateway's processor time, all its processes together.
admission  The same app with views of 50 ms. A quiet tenant asks 10 times a second and a noisy one 400 times,
        more than twice what the app can do, on a schedule (open loop): time counts from when it was due.
        `capacity` is what eight closed-loop clients get from the app directly. A tenant that is answered late
        or not at all has lost the service to the other. Each turn has an app and a front of its own; what is
        due in the first 10 s does not count. `late` is by how much the load process itself sent too late: it
        is part of the latencies. The load process goes before all else on its core where it may (run as
        root); a turn in which it was late all the same, or its core full, is void, and judged ones are then
        played again, up to three times in all. Two workers, and two nodes that share seats by a Redis, are on
        the one core that one process has. Each tenant's requests go to the nodes by turns. Poisson arrivals
        collide with each other, so they are not judged.
        20 tenants: all want more than their share, one 20 times as much; then 3 times what the app can do,
        for a minute. While all are heavy they leave the reserve free, so the peak there is 7/8 of the
        capacity; with reserve 0 it is all of it. Normal again: 95 % of each half second within 1.3 times the
        p99 before.
        Hung backend: a second backend takes requests and is silent; does the first one's latency change?
        Costs, in this process: a seat taken and given back; who is next while 10,000 tenants wait; and what
        memory a tenant that is idle for a while leaves behind.
        A full run draws tests/bench/quiet_tenant.svg, which README.md shows. `--case TEXT` measures the quiet
        tenant alone and the cases with the text in their names, and nothing else of this part.
isolation  Attacks (tests/faults/attacks/) of two tenants with all that their tokens allow, or of a client
        without one, for 10 s each, on a gateway of their own. Beside each, a third tenant's reads by id,
        pages by an index, and GETs through a threaded and an asynchronous backend, 50/s of each on a schedule
        (open loop). The gateway has core 0 to itself, with all its processes; the backends, the third tenant,
        which is there a second before, and the attackers (when nobody else wants it) share core 1. `p99` is
        the worst of the four kinds. Memory is that of all the gateway's processes (Pss), less what it was.
        `--attack TEXT` runs those with it in their names.
documents  The gateway's own documents (needs wrk), with token and tenant on. The tested server has core 0 to
        itself, with all that belongs to it: for Kinto that is PostgreSQL too. Two loads by turns; `ratio` is
        the first by the second in the same round, the median: of requests/s, or of a latency.
        `create`: the store alone (no HTTP) beside a sqlite3 loop with the same settings and rows, by turns in
        one process; over HTTP it is shown beside that. A page of 50 by an indexed field, one
        client: of the large collection and of one of 1,000, each in its own tenant's file. A deep page: the
        cursor stands behind 90 % of the collection. An export is read over HTTP; beside it a select that
        writes the same bytes to a file. Events: from when a write was sent (so the write is in it), or when
        another process had committed it, until each of ten subscribers has read it.
        Kinto (installed into var/bench/kinto, or --kinto FOLDER) runs on waitress with a hashed password for
        each request, its cache in memory, and PostgreSQL with Debian's settings (a commit is on the disk).
        Without PostgreSQL or Kinto the rest is measured.

Figures compare only within one run. A machine that does other work spoils them; the bench says so when it
notices.
"""

// pg-boss: jobs are rows in PostgreSQL. Settings by its documentation: batches of 1000 fetched without a pause while they
// come back full, by two workers in the process; for latency LISTEN/NOTIFY, which it has off by default, and one worker: a
// notice wakes all there are, and more are slower.
import { PgBoss } from "pg-boss";

const QUEUE = "nothing";

export const settings = {
	single: "send, a connection for each caller",
	batch: "insert",
	work: "batchSize 1000, burstWhenBatchFull, localConcurrency 2, pollingIntervalSeconds 0.5",
	latency: "useListenNotify, queue with notify, batchSize 100, burstWhenBatchFull, localConcurrency 1",
};

let boss;

async function start(url, connections, useListenNotify) {
	boss = new PgBoss({ connectionString: url, max: connections, useListenNotify, supervise: false, schedule: false });
	boss.on("error", (error) => { throw error; });
	await boss.start();
}

const notified = (measure) => measure === "latency"; // with single submissions to a busy worker it is six times slower

export async function open(url, connections, measure) {
	await start(url, connections, false);
	await boss.createQueue(QUEUE, { notify: notified(measure) });
}

export const submit = (body) => boss.send(QUEUE, body);

export const submitMany = (bodies) => boss.insert(QUEUE, bodies.map((data) => ({ data })));

export async function work(url, measure, started) {
	await start(url, 25, notified(measure));
	const options = measure === "latency" ? { batchSize: 100, burstWhenBatchFull: true, localConcurrency: 1 }
		: { batchSize: 1000, burstWhenBatchFull: true, localConcurrency: 2, pollingIntervalSeconds: 0.5 };
	await boss.work(QUEUE, options, async (jobs) => {
		for (const job of jobs)
			started(job.data);
	});
}

export async function left() {
	const { rows } = await boss.getDb().executeSql(
		"SELECT count(*)::int AS n FROM pgboss.job WHERE name = $1 AND state < 'completed'", [QUEUE]);
	return rows[0].n;
}

export const tidy = () => boss.getDb().executeSql("VACUUM ANALYZE pgboss.job_common");

export const close = () => boss.stop({ graceful: true, close: true, timeout: 10000 });

// graphile-worker: jobs are rows in PostgreSQL. Settings by its documentation (Performance): localQueue.size 500 and both
// batch delays 0, 24 jobs at once over 25 connections, for throughput; for latency its defaults, where a job's NOTIFY
// starts it, since a local queue is said there to cost latency.
import { makeWorkerUtils, run, Logger } from "graphile-worker";
import pg from "pg";

const TASK = "nothing";
const logger = new Logger(() => () => {});

export const settings = {
	single: "utils.addJob, a connection for each caller",
	batch: "utils.addJobs",
	work: "concurrentJobs 24, maxPoolSize 25, localQueue.size 500, completeJobBatchDelay 0, failJobBatchDelay 0",
	latency: "concurrentJobs 24, maxPoolSize 25",
};

let pool, utils, runner;

export async function open(url, connections) {
	pool = new pg.Pool({ connectionString: url, max: connections });
	pool.on("error", (error) => { throw error; });
	pool.on("connect", (client) => client.on("error", (error) => { throw error; }));
	utils = await makeWorkerUtils({ pgPool: pool, logger });
	await utils.migrate();
}

export const submit = (body) => utils.addJob(TASK, body);

export const submitMany = (bodies) => utils.addJobs(bodies.map((payload) => ({ identifier: TASK, payload })));

export async function work(url, measure, started) {
	const batches = { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 };
	runner = await run({
		logger,
		noHandleSignals: true,
		taskList: { [TASK]: (payload) => started(payload) },
		preset: {
			worker: {
				connectionString: url,
				concurrentJobs: 24,
				maxPoolSize: 25,
				...(measure === "latency" ? {} : batches),
			},
		},
	});
}

export async function left() {
	const { rows } = await pool.query("SELECT count(*)::int AS n FROM graphile_worker._private_jobs");
	return rows[0].n;
}

export const tidy = () => pool.query("VACUUM ANALYZE graphile_worker._private_jobs");

export async function close() {
	await runner?.stop();
	await utils?.release();
	await pool?.end();
}

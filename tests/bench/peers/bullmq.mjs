// BullMQ: jobs are keys in Redis, here with appendonly and appendfsync always, so that what is accepted is on disk. Settings
// by its documentation (Concurrency, Connections, Auto-removal): one connection for the callers (ioredis' automatic pipelines
// make it slower), many jobs at once in a worker, ended jobs removed.
import { Queue, Worker } from "bullmq";
import IORedis from "ioredis";

const QUEUE = "nothing";

export const settings = {
	single: "add, one connection",
	batch: "addBulk",
	work: "concurrency 500, removeOnComplete",
	latency: "concurrency 24, removeOnComplete",
};

const connect = (url) => new IORedis(url, { maxRetriesPerRequest: null });

let connection, queue, worker;

export async function open(url) {
	connection = connect(url);
	queue = new Queue(QUEUE, { connection });
	await queue.waitUntilReady();
}

const options = { removeOnComplete: true };

export const submit = (body) => queue.add("job", body, options);

export const submitMany = (bodies) => queue.addBulk(bodies.map((data) => ({ name: "job", data, opts: options })));

export async function work(url, measure, started) {
	connection = connect(url);
	worker = new Worker(QUEUE, async (job) => { started(job.data); },
		{ connection, concurrency: measure === "latency" ? 24 : 500, removeOnComplete: { count: 0 } });
	await worker.waitUntilReady();
}

export async function left() {
	const counts = await queue.getJobCounts("waiting", "active", "delayed", "prioritized");
	return Object.values(counts).reduce((sum, count) => sum + count, 0);
}

export const tidy = async () => {};

export async function close() {
	await worker?.close();
	await queue?.close();
	connection.disconnect();
}

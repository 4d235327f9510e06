// node run.mjs PEER MEASURE URL SECONDS|COUNT [CALLERS]: measures one peer and prints one line of JSON.
//
//   single   submissions/s one at a time, each of CALLERS callers waiting for its own, for SECONDS
//   batch    the same by the peer's batch call, 1000 a call, two callers, for SECONDS
//   work     COUNT jobs that are queued already, by a worker that does nothing, until none is left
//   latency  from before the call that submits to the start of the job, at 50 a second for SECONDS
//   around   COUNT jobs submitted one at a time by CALLERS callers while the worker runs, until none is left
//
// Before a worker is measured, the planner's statistics are refreshed while jobs are queued, which a peer that has run for
// some time would have. The worker is a process of its own. Time is CLOCK_MONOTONIC, which all processes share.
import { fork } from "node:child_process";
import { createRequire } from "node:module";
import { setTimeout as pause } from "node:timers/promises";

const PEERS = { "graphile-worker": "./graphile_worker.mjs", "pg-boss": "./pg_boss.mjs", bullmq: "./bullmq.mjs" };
const BATCH = 1000;
const RATE = 50;
const WARM = 5000;
const now = () => Number(process.hrtime.bigint()) / 1e6;

const [name, measure, url, amountText, callersText = "16"] = process.argv.slice(2);
const amount = Number(amountText), callers = Number(callersText);
const peer = await import(PEERS[name]);

// As large as what the service is sent in the same row.
const body = (extra) => ({ language: "python", code: "print('hello, world')" + "#".repeat(540), ...extra });

// The other process: counts what started, and tells when it was enough.
async function worker() {
	const samples = [];
	let count = 0, begun;
	await peer.work(url, measure, (payload) => {
		if (payload.warm)
			return;
		begun ??= now();
		if (payload.sent)
			samples.push(now() - payload.sent);
		if (++count === amount * (measure === "latency" ? RATE : 1))
			process.send({ samples, begun });
	});
	process.send("ready");
	process.on("message", async () => {
		await peer.close();
		process.exit(0);
	});
}

async function startWorker() {
	const child = fork(new URL(import.meta.url).pathname, process.argv.slice(2));
	const ended = new Promise((done) => child.once("exit", done));
	const said = () => new Promise((done, fail) => {
		child.once("message", done);
		ended.then(() => fail(new Error("the worker ended")));
	});
	await said();
	return { finished: said(), stop: () => { child.send("stop"); return ended; } };
}

async function queue(count, extra) {
	for (let queued = 0; queued < count; queued += BATCH)
		await peer.submitMany(Array.from({ length: Math.min(BATCH, count - queued) }, () => body(extra)));
	await peer.tidy();
}

async function startWarmWorker() {
	await queue(WARM, { warm: true });
	const child = await startWorker();
	await noneLeft();
	return child;
}

async function noneLeft() {
	while (await peer.left())
		await pause(5);
}

// Calls `one` from so many callers at once until `enough` says so; how often it was called.
async function inTurns(howMany, enough, one) {
	let calls = 0;
	await Promise.all(Array.from({ length: howMany }, async () => {
		while (!enough(calls)) {
			calls++;
			await one();
		}
	}));
	return calls;
}

async function perSecond(howMany, each, one) {
	const warm = now() + 500;
	await inTurns(howMany, () => now() > warm, one);
	const begin = now();
	const calls = await inTurns(howMany, () => now() > begin + amount * 1000, one);
	return { rate: Math.round(calls * each / (now() - begin) * 1000) };
}

const measures = {
	single: () => perSecond(callers, 1, () => peer.submit(body())),
	batch: () => perSecond(2, BATCH, () => peer.submitMany(Array.from({ length: BATCH }, () => body()))),
	async work() {
		await queue(amount);
		const child = await startWorker();
		const { begun } = await child.finished; // the process's own start does not count
		await noneLeft();
		const took = now() - begun;
		await child.stop();
		return { rate: Math.round(amount / took * 1000) };
	},
	async latency() {
		const child = await startWarmWorker();
		const begin = now();
		for (let i = 0; i < amount * RATE; i++) {
			await pause(Math.max(0, begin + i * 1000 / RATE - now()));
			peer.submit(body({ sent: now() }));
		}
		const { samples } = await child.finished;
		await child.stop();
		samples.sort((a, b) => a - b);
		const at = (part) => Number(samples[Math.ceil(samples.length * part) - 1].toFixed(2));
		return { p50_ms: at(0.5), p99_ms: at(0.99) };
	},
	async around() {
		const child = await startWarmWorker();
		const begin = now();
		await inTurns(callers, (calls) => calls === amount, () => peer.submit(body()));
		await child.finished;
		await noneLeft();
		const took = now() - begin;
		await child.stop();
		return { rate: Math.round(amount / took * 1000) };
	},
};

async function main() {
	await peer.open(url, callers, measure);
	const figures = await measures[measure]();
	await peer.close();
	const settings = measure === "around" ? `${peer.settings.single}; ${peer.settings.work}`
		: peer.settings[measure];
	const { version } = createRequire(import.meta.url)(`./node_modules/${name}/package.json`);
	console.log(JSON.stringify({ peer: name, version, what: measure, ...figures, callers, settings }));
	process.exit(0);
}

if (process.send)
	await worker();
else
	await main();

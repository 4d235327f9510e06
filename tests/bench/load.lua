-- Load for wrk, and its figures as one line that tests/bench/run reads.
--
--	wrk … -s load.lua URL -- METHOD BODY PATHS
--
-- BODY is a file, or "-" for none; PATHS a file of one path a line, taken in turn, or "-" for the URL's own.
local requests, next_request = {}, 0

local function read(name)
	local file = assert(io.open(name, "rb"))
	local text = file:read("*a")
	file:close()
	return text
end

function init(arguments)
	local method, body, paths = arguments[1], arguments[2], arguments[3]
	wrk.method = method
	if body ~= "-" then
		wrk.body = read(body)
		wrk.headers["Content-Type"] = "application/json"
	end
	if paths ~= "-" then
		for path in read(paths):gmatch("[^\n]+") do
			requests[#requests + 1] = wrk.format(nil, path)
		end
	else
		requests[1] = wrk.format()
	end
end

function request()
	next_request = next_request % #requests + 1
	return requests[next_request]
end

function done(summary, latency)
	local errors = summary.errors
	io.write(string.format("RESULT %d %d %d %d %d %d\n", summary.requests, summary.duration, latency:percentile(50),
		latency:percentile(99), errors.connect + errors.read + errors.write + errors.timeout, errors.status))
end

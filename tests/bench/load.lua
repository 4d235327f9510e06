-- Load for wrk, and its figures as one line that tests/bench/run reads.
--
--	wrk … -s load.lua URL -- METHOD BODY PATHS [MOST [EVAL-ID]]
--
-- BODY is a file, or "-" for none; PATHS a file of one path a line, taken in turn, or "-" for the URL's own. After MOST answers no
-- more are asked for (0: no such limit). EVAL-ID stands in the body where each request is to have a random id of the same length.
local requests, next_request, answers, most, eval_id = {}, 0, 0, 0, nil

local function read(name)
	local file = assert(io.open(name, "rb"))
	local text = file:read("*a")
	file:close()
	return text
end

function init(arguments)
	local method, body, paths = arguments[1], arguments[2], arguments[3]
	most, eval_id = tonumber(arguments[4] or 0), arguments[5]
	if most > 0 then
		-- Defined only here: without it wrk need not keep the answers.
		response = function()
			answers = answers + 1
			if answers >= most then
				wrk.thread:stop()
			end
		end
	end
	if eval_id then
		math.randomseed(os.time() * 1000 + os.clock() * 1000000)
		local template = read(body)
		local begin, finish = template:find(eval_id, 1, true)
		request = function()
			local id = {}
			for i = 1, #eval_id / 4 do
				id[i] = string.format("%04x", math.random(0, 65535))
			end
			return wrk.format(nil, nil, nil, template:sub(1, begin - 1) .. table.concat(id) .. template:sub(finish + 1))
		end
	end
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

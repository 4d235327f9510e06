-- Creates a Job and a Secret in turn, as an evaluation does, for tests/bench/rows_kube.py.
--
--	wrk … -s kube_create.lua URL -- DIRECTORY JOBS-PATH SECRETS-PATH EVALUATIONS
--
-- DIRECTORY has the files `jobs` and `secrets`, in which NAMEOFTHEOBJECT stands for the name.
local marker = "NAMEOFTHEOBJECT"
local paths, texts, sent, answers, most = {}, {}, 0, 0, 0

local function read(name)
	local file = assert(io.open(name, "rb"))
	local text = file:read("*a")
	file:close()
	return text
end

function init(arguments)
	for i, name in ipairs({ "jobs", "secrets" }) do
		paths[i] = arguments[i + 1]
		texts[i] = read(arguments[1] .. "/" .. name)
	end
	most = 2 * tonumber(arguments[4])
	wrk.method = "POST"
	wrk.headers["Content-Type"] = "application/json"
end

function request()
	local which = sent % 2 + 1
	local name = string.format("bare-%d", math.floor(sent / 2))
	sent = sent + 1
	if sent > most then
		return wrk.format("GET", "/version")
	end
	return wrk.format(nil, paths[which], nil, (texts[which]:gsub(marker, name)))
end

function response(status)
	answers = answers + 1
	if answers >= most then
		wrk.thread:stop()
	end
end

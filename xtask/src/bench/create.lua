-- Every request creates a ConfigMap of another name. TAG, COLLECTION and FILLER are environment variables set by `cargo xtask bench`.
local threads = 0
function setup(thread)
    thread:set("id", threads)
    threads = threads + 1
end

local count = 0
local filler = os.getenv("FILLER")
local path = os.getenv("COLLECTION")
local tag = os.getenv("TAG")
function request()
    count = count + 1
    local name = string.format("c%s-%d-%08d", tag, id, count)
    local body = '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"' .. name .. '"},"data":{"filler":"' .. filler .. '"}}'
    return "POST " .. path .. " HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: " .. #body
        .. "\r\n\r\n" .. body
end

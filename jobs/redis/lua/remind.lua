-- Keeps a reminder for later, by Redis's clock.
redis.call('ZADD', KEYS[1], now_ms() + ARGV[2], ARGV[1])

// redigo, with redisc as a cluster's client and sentinel as a Sentinel's.
package main

import (
	"bytes"
	"fmt"
	"math/rand"
	"os"
	"strings"
	"time"

	"github.com/FZambia/sentinel"
	"github.com/gomodule/redigo/redis"
	"github.com/mna/redisc"
)

var (
	mode   = os.Getenv("KW_MODE")
	prefix = os.Getenv("KW_PREFIX")
	addr   = os.Getenv("KW_HOST") + ":" + os.Getenv("KW_PORT")
	later  = strings.Split(os.Getenv("KW_LATER"), ",")
	limits = []redis.DialOption{redis.DialConnectTimeout(20 * time.Second),
		redis.DialReadTimeout(20 * time.Second)}
	cluster *redisc.Cluster
)

func oneServer() redis.Conn {
	c, err := redis.Dial("tcp", addr, limits...)
	if err != nil {
		panic(err)
	}
	return c
}

func connect() redis.Conn {
	switch mode {
	case "cluster":
		cluster = &redisc.Cluster{StartupNodes: []string{addr}, DialOptions: limits}
		if err := cluster.Refresh(); err != nil {
			panic(err)
		}
		c, err := redisc.RetryConn(cluster.Get(), 3, 50*time.Millisecond)
		if err != nil {
			panic(err)
		}
		return c
	case "sentinel":
		s := &sentinel.Sentinel{Addrs: []string{addr}, MasterName: "mymaster",
			Dial: func(a string) (redis.Conn, error) { return redis.Dial("tcp", a, limits...) }}
		master, err := s.MasterAddr()
		if err != nil {
			panic(err)
		}
		c, err := redis.Dial("tcp", master, limits...)
		if err != nil || !sentinel.TestRole(c, "master") {
			panic(fmt.Sprint("not a master: ", err))
		}
		return c
	}
	return oneServer()
}

// @x is the key x, %x the key x with the hash tag that all such keys share.
func words(line string) (string, []interface{}) {
	var args []interface{}
	for _, w := range strings.Fields(line) {
		switch w[0] {
		case '@':
			w = prefix + ":" + w[1:]
		case '%':
			w = "{" + prefix + "}:" + w[1:]
		}
		args = append(args, w)
	}
	return args[0].(string), args[1:]
}

func text(v interface{}, err error) string {
	if err != nil {
		return "-" + err.Error()
	}
	switch v := v.(type) {
	case nil:
		return "(nil)"
	case int64:
		return fmt.Sprintf(":%d", v)
	case []byte:
		return string(v)
	case string:
		return v
	case redis.Error:
		return "-" + v.Error()
	case []interface{}:
		var parts []string
		for _, x := range v {
			parts = append(parts, text(x, nil))
		}
		return "[" + strings.Join(parts, " ") + "]"
	}
	return fmt.Sprint(v)
}

func do(c redis.Conn, line string) string {
	name, args := words(line)
	return text(c.Do(name, args...))
}

func op(name string, f func() string) {
	for _, l := range later {
		if l == name {
			fmt.Println("later", name)
			return
		}
	}
	why := func() (why string) {
		defer func() {
			if r := recover(); r != nil {
				why = fmt.Sprint("panic: ", r)
			}
		}()
		return f()
	}()
	if why == "" {
		fmt.Println("ok", name)
	} else {
		fmt.Printf("FAIL %s: %.300s\n", name, strings.ReplaceAll(why, "\n", " "))
	}
}

func same(want, got string) string {
	if want == got || strings.HasSuffix(want, "...") && strings.HasPrefix(got, want[:len(want)-3]) {
		return ""
	}
	return fmt.Sprintf("expected %.100s, got %.150s", want, got)
}

// Commands and their answers in turn.
func talk(name string, c redis.Conn, lines ...string) {
	op(name, func() string {
		for i := 0; i < len(lines); i += 2 {
			want := strings.ReplaceAll(lines[i+1], "@", prefix+":")
			if why := same(want, do(c, lines[i])); why != "" {
				return lines[i] + ": " + why
			}
		}
		return ""
	})
}

func survives(c redis.Conn, key string, value []byte) string {
	if _, err := c.Do("SET", prefix+key, value); err != nil {
		return err.Error()
	}
	got, err := redis.Bytes(c.Do("GET", prefix+key))
	if err != nil || !bytes.Equal(got, value) {
		return fmt.Sprintf("%d bytes came back, %v", len(got), err)
	}
	return ""
}

func follow(c redis.Conn, command string, args ...interface{}) map[string]bool {
	all, cursor := map[string]bool{}, "0"
	for {
		call := append(append([]interface{}{}, args...), cursor)
		if command == "SCAN" {
			call = []interface{}{cursor, "MATCH", args[0], "COUNT", 50}
		}
		page, err := redis.Values(c.Do(command, call...))
		if err != nil {
			panic(err)
		}
		items, _ := redis.Strings(page[1], nil)
		for _, x := range items {
			all[x] = true
		}
		if cursor, _ = redis.String(page[0], nil); cursor == "0" {
			return all
		}
	}
}

func heard(pattern bool) string {
	name := prefix + ":ch"
	ps := redis.PubSubConn{Conn: oneServer()}
	defer ps.Close()
	if pattern {
		name = prefix + ":p1"
		ps.PSubscribe(prefix + ":p?")
	} else {
		ps.Subscribe(name)
	}
	if s, ok := ps.Receive().(redis.Subscription); !ok || s.Count != 1 {
		return fmt.Sprint("no confirmation: ", s)
	}
	pub := oneServer()
	defer pub.Close()
	for _, want := range []string{"one", "\x00\r\n"} {
		pub.Do("PUBLISH", name, want)
		m, ok := ps.Receive().(redis.Message)
		if !ok || m.Channel != name || string(m.Data) != want {
			return fmt.Sprint("got ", m)
		}
	}
	return ""
}

func soon(line string) {
	go func() {
		time.Sleep(300 * time.Millisecond)
		c := oneServer()
		do(c, line)
		c.Close()
	}()
}

func pipeline(c redis.Conn) string {
	for i := 0; i < 500; i++ {
		c.Send("SET", fmt.Sprintf("%s:p%d", prefix, i), i)
		c.Send("GET", fmt.Sprintf("%s:p%d", prefix, i))
	}
	c.Flush()
	for i := 0; i < 500; i++ {
		ok, _ := redis.String(c.Receive())
		n, err := redis.Int(c.Receive())
		if ok != "OK" || n != i {
			return fmt.Sprint("at ", i, ": ", ok, " ", n, " ", err)
		}
	}
	return ""
}

func pipelineError(c redis.Conn) string {
	for _, line := range []string{"SET @pe x", "LPUSH @pe 1", "GET @pe"} {
		name, args := words(line)
		c.Send(name, args...)
	}
	c.Flush()
	got := ""
	for i := 0; i < 3; i++ {
		got += fmt.Sprintf("%.10s ", text(c.Receive()))
	}
	return same("OK -WRONGTYPE x ", got)
}

func noscript(c redis.Conn) string {
	sha := do2(c, "SCRIPT", "LOAD", "return {KEYS[1], ARGV[1], 42}")
	for i := 0; i < 20; i++ {
		key := fmt.Sprintf("%s:s%d", prefix, i)
		if why := same("["+key+" a :42]", do2(c, "EVALSHA", sha, 1, key, "a")); why != "" {
			return why
		}
	}
	return same("-NOSCRIPT ...", do2(c, "EVALSHA", strings.Repeat("f", 40), 1, prefix+":s"))
}

func do2(c redis.Conn, name string, args ...interface{}) string { return text(c.Do(name, args...)) }

func watch(c, other redis.Conn) string {
	return same("OK OK OK OK QUEUED (nil) 2 OK OK QUEUED [:3]", strings.Join([]string{
		do(c, "SET %w 1"), do(c, "WATCH %w"), do(other, "SET %w 2"), do(c, "MULTI"), do(c, "SET %w 3"),
		do(c, "EXEC"), do(c, "GET %w"), do(c, "WATCH %w"), do(c, "MULTI"), do(c, "INCR %w"),
		do(c, "EXEC")}, " "))
}

func main() {
	fmt.Println("version 1.8.3")
	r, one := connect(), oneServer()
	m := "@m"
	if mode == "cluster" {
		m = "%m"
	}
	var mset, mget, want string
	for i := 0; i < 30; i++ {
		mset += fmt.Sprintf(" %s%d %d", m, i, i)
		mget += fmt.Sprintf(" %s%d", m, i)
		want += fmt.Sprintf("%d ", i)
	}
	talk("ping", one, "PING", "PONG", "PING x", "x")
	talk("echo", one, "ECHO hello", "hello")
	talk("set_get", r, "SET @a v", "OK", "GET @a", "v")
	talk("set_options", r, "SET @o 1 NX EX 100", "OK", "SET @o 2 NX", "(nil)", "SET @o 3 XX GET", "1")
	op("empty_value", func() string { return survives(r, ":e", []byte{}) })
	op("binary", func() string { return survives(r, ":b\x00\r\n", []byte("\x00\r\n$-1\r\n\xff")) })
	op("large_value", func() string {
		value := make([]byte, 1<<20)
		rand.Read(value)
		return survives(r, ":large", value)
	})
	talk("missing_key", r, "GET @no", "(nil)", "LPOP @no", "(nil)", "HGETALL @no", "[]")
	talk("incr", r, "INCR @n", ":1", "INCRBY @n 41", ":42", "DECR @n", ":41", "INCRBYFLOAT @n 0.5", "41.5")
	talk("append_getrange", r, "APPEND @ap hello", ":5", "APPEND @ap world", ":10",
		"GETRANGE @ap 5 -1", "world")
	talk("mset_mget", r, "MSET"+mset, "OK", "MGET"+mget+" "+m+"99", "["+want+"(nil)]")
	talk("del_exists", r, "EXISTS"+mget, ":30", "DEL"+mget, ":30", "EXISTS"+mget, ":0")
	talk("expire_ttl", r, "SET @ex 1", "OK", "EXPIRE @ex 100", ":1", "TTL @ex", ":...",
		"PERSIST @ex", ":1", "TTL @ex", ":-1", "TTL @no", ":-2")
	talk("bits", r, "SETBIT @b 7 1", ":0", "GETBIT @b 7", ":1", "BITCOUNT @b", ":1", "BITPOS @b 1", ":7")
	talk("hash", r, "HSET @h a 1 b 2", ":2", "HGETALL @h", "[a 1 b 2]", "HMGET @h a z", "[1 (nil)]",
		"HDEL @h b", ":1")
	talk("hash_incr", r, "HINCRBY @h a 10", ":11", "HINCRBYFLOAT @h a 0.5", "11.5")
	op("hscan", func() string {
		args := []interface{}{prefix + ":hs"}
		for i := 0; i < 1500; i++ {
			args = append(args, fmt.Sprint("f", i), fmt.Sprint("v", i))
		}
		r.Do("HSET", args...)
		return same("3000", fmt.Sprint(len(follow(r, "HSCAN", prefix+":hs"))))
	})
	talk("list", r, "RPUSH @l a b c d", ":4", "LRANGE @l 0 -1", "[a b c d]", "LPOP @l", "a", "RPOP @l",
		"d", "LLEN @l", ":2")
	talk("list_move", r, "RPUSH %l1 1 2", ":2", "RPOPLPUSH %l1 %l2", "2", "LRANGE %l2 0 -1", "[2]")
	talk("set", r, "SADD @s 3 1 2", ":3", "SMEMBERS @s", "[1 2 3]", "SISMEMBER @s 1", ":1", "SCARD @s", ":3")
	talk("set_inter", r, "SADD %s1 1 2", ":2", "SADD %s2 2 3", ":2", "SINTER %s1 %s2", "[2]",
		"SUNIONSTORE %s3 %s1 %s2", ":3")
	op("sscan", func() string {
		args := []interface{}{prefix + ":ss"}
		for i := 0; i < 1500; i++ {
			args = append(args, i)
		}
		r.Do("SADD", args...)
		return same("1500", fmt.Sprint(len(follow(r, "SSCAN", prefix+":ss"))))
	})
	talk("zset", r, "ZADD @z 1 a 2.5 b 3 c", ":3", "ZRANGE @z 0 -1 WITHSCORES", "[a 1 b 2.5 c 3]",
		"ZRANK @z b", ":1")
	talk("zset_byscore", r, "ZRANGEBYSCORE @z (1 +inf", "[b c]")
	talk("zset_incr", r, "ZINCRBY @z 2.5 a", "3.5", "ZSCORE @z a", "3.5")
	talk("hyperloglog", r, "PFADD @pf a b c", ":1", "PFCOUNT @pf", ":3")
	talk("geo", r, "GEOADD @g 13.361389 38.115556 P 15.087269 37.502669 C", ":2",
		"GEODIST @g P C km", "166.2742", "GEOSEARCH @g FROMLONLAT 15 37 BYRADIUS 200 km ASC", "[C P]")
	talk("stream", r, "XADD @x 1-1 a 1", "1-1", "XADD @x 1-2 a 2", "1-2", "XRANGE @x - +",
		"[[1-1 [a 1]] [1-2 [a 2]]]", "XLEN @x", ":2")
	// redisc looks for the key in the first argument: as its manual says, the rest is for Bind.
	x := r
	if mode == "cluster" {
		x = cluster.Get()
		redisc.BindConn(x, prefix+":xg")
	}
	talk("stream_group", x, "XGROUP CREATE @xg g 0 MKSTREAM", "OK", "XADD @xg 1-1 a 1", "1-1",
		"XREADGROUP GROUP g c STREAMS @xg >", "[[@xg [[1-1 [a 1]]]]]", "XACK @xg g 1-1", ":1")
	talk("type_rename", r, "SET %r1 x", "OK", "TYPE %r1", "string", "RENAME %r1 %r2", "OK", "GET %r2", "x")
	talk("sort", r, "RPUSH @so 3 1 2", ":3", "SORT @so", "[1 2 3]")
	op("eval", func() string {
		return same("["+prefix+":ev x :7 (nil)]", do2(x, "EVAL", "return {KEYS[1], ARGV[1], 7, false}",
			1, prefix+":ev", "x"))
	})
	op("evalsha", func() string { // EVALSHA, then EVAL where it must be
		bump := redis.NewScript(1, "return redis.call('incr', KEYS[1])")
		return same(":1 :2", text(bump.Do(x, prefix+":es"))+" "+text(bump.Do(x, prefix+":es")))
	})
	op("noscript", func() string { return noscript(one) })
	talk("wrong_type", r, "SET @wt 1", "OK", "LPUSH @wt 1", "-WRONGTYPE ...")
	talk("unknown_command", one, "NOSUCHCOMMAND a", "-ERR unknown command 'NOSUCHCOMMAND', with ...")
	p := r
	if mode == "cluster" { // RetryConn has no Send
		p = cluster.Get()
		redisc.BindConn(p, prefix+":pe")
	}
	op("pipeline", func() string { return pipeline(p) })
	op("pipeline_error", func() string { return pipelineError(p) })
	op("scan", func() string {
		for i := 0; i < 300; i++ {
			r.Do("SET", fmt.Sprintf("%s:scan:%d", prefix, i), "")
		}
		keys, _ := redis.Strings(one.Do("KEYS", prefix+":scan:*"))
		return same("300 300", fmt.Sprint(len(follow(one, "SCAN", prefix+":scan:*")), " ", len(keys)))
	})
	op("dbsize", func() string {
		n, err := redis.Int(one.Do("DBSIZE"))
		return same("true", fmt.Sprint(n >= 300 && err == nil))
	})
	op("info", func() string {
		return same("true", fmt.Sprint(strings.Contains(do(one, "INFO"), "redis_version:")))
	})
	op("client_name", func() string {
		c, err := redis.Dial("tcp", addr, redis.DialClientName("kw-name"))
		if err != nil {
			return err.Error()
		}
		return same("kw-name", do(c, "CLIENT GETNAME"))
	})
	op("publish", func() string { return heard(false) })
	op("psubscribe", func() string { return heard(true) })
	talk("multi", one, "MULTI", "OK", "SET %tx 7", "QUEUED", "INCR %tx", "QUEUED", "GET %tx", "QUEUED",
		"EXEC", "[OK :8 8]", "MULTI", "OK", "SET %tx 9", "QUEUED", "DISCARD", "OK", "GET %tx", "8")
	op("watch", func() string { return watch(one, oneServer()) })
	talk("blpop", r, "RPUSH @bl x", ":1", "BLPOP @bl 5", "[@bl x]", "BLPOP @bl 1", "(nil)")
	op("brpop_wait", func() string {
		soon("LPUSH @later job")
		return same("["+prefix+":later job]", do(r, "BRPOP @later 10"))
	})
	talk("bzpopmin", r, "ZADD @bz 2 a 1 b", ":2", "BZPOPMIN @bz 5", "[@bz b 1]")
	op("xread_block", func() string {
		soon("XADD @xb 7-7 a 1")
		return same("[["+prefix+":xb [[7-7 [a 1]]]]]", do(x, "XREAD BLOCK 10000 STREAMS @xb $"))
	})
	fmt.Println("done")
}

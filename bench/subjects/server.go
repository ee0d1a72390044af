// Go's own sockets, a goroutine for each connection: `server MODE`. Speaks as bench/serve.ts does.
package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

const mebi = 1 << 20

var (
	handled  int64
	mutex    sync.Mutex
	everyone = map[net.Conn]bool{}
)

func serve(mode string, connection net.Conn) {
	defer connection.Close()
	if mode == "fanout" {
		mutex.Lock()
		everyone[connection] = true
		mutex.Unlock()
		defer func() {
			mutex.Lock()
			delete(everyone, connection)
			mutex.Unlock()
		}()
	}
	buffer := make([]byte, 16*1024)
	var chunk []byte
	if mode == "source" {
		chunk = make([]byte, 64*1024)
	}
	received := 0
	for {
		size, err := connection.Read(buffer)
		if err != nil {
			return
		}
		switch mode {
		case "echo":
			if _, err := connection.Write(buffer[:size]); err != nil {
				return
			}
		case "sink":
			for received += size; received >= mebi; received -= mebi {
				connection.Write(buffer[:1])
			}
		case "source":
			for owed := size * mebi; owed > 0; owed -= len(chunk) {
				if _, err := connection.Write(chunk); err != nil {
					return
				}
			}
		case "fanout":
			mutex.Lock()
			for other := range everyone {
				if other != connection {
					other.Write(buffer[:size])
				}
			}
			mutex.Unlock()
		}
	}
}

func datagrams(socket *net.UDPConn, answer bool) {
	buffer := make([]byte, 2048)
	for {
		size, from, err := socket.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		atomic.AddInt64(&handled, 1)
		if answer {
			socket.WriteToUDPAddrPort(buffer[:size], from)
		}
	}
}

func send(port, size, count int) {
	socket, err := net.Dial("udp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		panic(err)
	}
	defer socket.Close()
	data := make([]byte, size)
	for i := 0; i < count; i++ {
		socket.Write(data)
	}
}

func main() {
	mode := os.Args[1]
	port := 0
	if mode[:3] == "udp" {
		socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			panic(err)
		}
		port = socket.LocalAddr().(*net.UDPAddr).Port
		go datagrams(socket, mode == "udp-echo")
	} else {
		listener, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			panic(err)
		}
		port = listener.Addr().(*net.TCPAddr).Port
		go func() {
			for {
				connection, err := listener.Accept()
				if err != nil {
					panic(err)
				}
				go serve(mode, connection)
			}
		}()
	}
	fmt.Printf("port %d pid %d\n", port, os.Getpid())
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		var to, size, count int
		answer := "done"
		if fields, _ := fmt.Sscanf(input.Text(), "send %d %d %d", &to, &size, &count); fields == 3 {
			send(to, size, count)
		} else if input.Text() == "handled" {
			answer = fmt.Sprint(atomic.LoadInt64(&handled))
		} else {
			debug.FreeOSMemory()
		}
		fmt.Println(answer)
	}
}

#!/usr/bin/env escript
%%! +S 1
%% A passive gen_tcp loop in a process for each connection: `server.escript MODE`, echo, sink or packet4. Speaks as bench/serve.ts does.
-mode(compile).

-define(MEBI, 1048576).

main([Mode]) ->
  Packet = case Mode of "packet4" -> 4; _ -> raw end,
  Options = [binary, {packet, Packet}, {active, false}, {ip, {127, 0, 0, 1}}, {nodelay, true}, {backlog, 4096}, {buffer, 65536}],
  {ok, Listening} = gen_tcp:listen(0, Options),
  {ok, Port} = inet:port(Listening),
  io:format("port ~b pid ~s~n", [Port, os:getpid()]),
  Loop = case Mode of "sink" -> fun(Socket) -> sink(Socket, 0) end; _ -> fun echo/1 end,
  spawn_link(fun() -> accept(Listening, Loop) end),
  command(io:get_line("")).

command(eof) -> halt();
command(_) ->
  [erlang:garbage_collect(Process) || Process <- processes()],
  io:format("done~n"),
  command(io:get_line("")).

accept(Listening, Loop) ->
  {ok, Socket} = gen_tcp:accept(Listening),
  Process = spawn(fun() -> receive go -> Loop(Socket) end end),
  ok = gen_tcp:controlling_process(Socket, Process),
  Process ! go,
  accept(Listening, Loop).

echo(Socket) ->
  case gen_tcp:recv(Socket, 0) of
    {ok, Data} ->
      _ = gen_tcp:send(Socket, Data),
      echo(Socket);
    {error, _} ->
      gen_tcp:close(Socket)
  end.

sink(Socket, Received) ->
  case gen_tcp:recv(Socket, 0) of
    {ok, Data} -> sink(Socket, acknowledge(Socket, Received + byte_size(Data)));
    {error, _} -> gen_tcp:close(Socket)
  end.

acknowledge(Socket, Received) when Received >= ?MEBI ->
  _ = gen_tcp:send(Socket, <<"a">>),
  acknowledge(Socket, Received - ?MEBI);
acknowledge(_, Received) -> Received.

#!/usr/bin/env escript
%%! +S 1
%% The passive loop of `dialects.ts` in the original: says its port, and ends with whoever started it.
-mode(compile).

main(_) ->
  {ok, Listening} = gen_tcp:listen(0, [binary, {packet, 4}, {active, false}, {ip, {127, 0, 0, 1}}, {nodelay, true}]),
  {ok, Port} = inet:port(Listening),
  io:format("~b ~s~n", [Port, os:getpid()]),
  spawn_link(fun() -> accept(Listening) end),
  eof = io:get_line(""),
  halt().

accept(Listening) ->
  {ok, Socket} = gen_tcp:accept(Listening),
  Process = spawn(fun() -> receive go -> loop(Socket) end end),
  ok = gen_tcp:controlling_process(Socket, Process),
  Process ! go,
  accept(Listening).

loop(Socket) ->
  case gen_tcp:recv(Socket, 0) of
    {ok, Data} ->
      ok = gen_tcp:send(Socket, Data),
      loop(Socket);
    {error, closed} ->
      ok
  end.

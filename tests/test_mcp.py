"""The MCP server, through the SDK's own client: in process, over stdio and over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time

import pytest

from tunewright.agent import Agent, Budget, Float, Int
from tunewright.agent.workbench import Workbench

mcp = pytest.importorskip("mcp")
from tunewright.plugins.mcp import server  # noqa: E402

SPACE = {"lr": Float(1e-5, 1e-1, log=True), "width": Int(8, 64)}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "s.db"
    with Agent(SPACE, metric="loss", engine="random", store=path, study="s", budget=Budget(trials=20)) as agent:
        agent.tune(lambda trial: trial["lr"] * trial["width"], 6)
    return path


def talk(target, conversation):
    async def run():
        async with mcp.Client(target) as client:
            return await conversation(client)

    return asyncio.run(asyncio.wait_for(run(), 60))


def test_tools_resources_and_prompts_in_process(path):
    bench = Workbench(path)

    async def conversation(client):
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        study = await client.call_tool("study", {})
        why = await client.call_tool("why", {"number": 3})
        listed = await client.call_tool("trials", {"sort": "best", "limit": 2})
        resource = await client.read_resource("study://s/trials")
        reason = await client.read_resource("study://s/trials/2/why")
        prompts = [prompt.name for prompt in (await client.list_prompts()).prompts]
        return tools, study, why, listed, resource, reason, prompts

    tools, study, why, listed, resource, reason, prompts = talk(server(bench), conversation)
    assert "study" in tools and "freeze" not in tools
    assert tools["trial"].input_schema["properties"]["number"]["minimum"] == 0
    assert json.loads(study.content[0].text)["trials"] == {"complete": 6}
    assert "Chosen by" in why.content[0].text
    assert not listed.is_error
    assert len(json.loads(resource.contents[0].text)) == 6
    assert "Trial 2" in reason.contents[0].text
    assert prompts == ["review"]
    bench.close()


def test_changes_are_offered_only_when_allowed_and_marked(path):
    bench = Workbench(path)

    async def conversation(client):
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        frozen = await client.call_tool("freeze", {"parameter": "width", "value": 16})
        wrong = await client.call_tool("freeze", {"parameter": "depth"})
        unfit = await client.call_tool("trial", {"number": -1})
        return tools, frozen, wrong, unfit

    tools, frozen, wrong, unfit = talk(server(bench, changes=True), conversation)
    assert not tools["freeze"].annotations.read_only_hint
    assert tools["study"].annotations.read_only_hint
    assert not frozen.is_error
    assert bench.agent.space.parameters["width"].choices == (16,)
    assert wrong.is_error and "no such parameter" in wrong.content[0].text
    assert unfit.is_error
    bench.close()


def test_over_stdio(path):
    parameters = mcp.StdioServerParameters(
        command=sys.executable,
        args=["-c", "from tunewright.plugins.mcp import command; command()", "s", "--store", str(path)],
        env={**os.environ},
    )

    async def conversation(client):
        return await client.call_tool("study", {})

    assert json.loads(talk(parameters, conversation).content[0].text)["study"] == "s"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_over_http_with_a_token(path):
    import httpx

    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", "from tunewright.plugins.mcp import command; command()", "s", "--store", str(path),
         "--http", str(port)],
        env={**os.environ, "TUNEWRIGHT_MCP_TOKEN": "sesame"}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}/mcp"
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                refused = httpx.post(url, json={})
                break
            except httpx.TransportError:
                time.sleep(0.1)
        assert refused.status_code == 401
        who = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}
        body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": who}
        headers = {"authorization": "Bearer sesame", "accept": "application/json, text/event-stream"}
        answered = httpx.post(url, json=body, headers=headers)
        assert answered.status_code == 200
        assert "tunewright" in answered.text
    finally:
        process.terminate()
        process.wait(10)

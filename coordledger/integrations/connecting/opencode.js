// Asks `coordledger agent-hook opencode`: one JSON object on its stdin, one on its stdout.
// Whatever fails there stays there: a session is never held up by it.
import { spawn, spawnSync } from "node:child_process"

const PROGRAM = "coordledger"
const SERVER = "coordledger"
const ARGUMENTS = ["agent-hook", "opencode"]
const MILLISECONDS = 10000

export const Coordledger = async ({ client, directory, worktree }) => {
  const told = new Map() // what each session was told at its start, and with its last prompt
  const children = new Set()
  const continued = new Set()

  const said = (event, sessionID, more = {}) =>
    JSON.stringify({ event, sessionID, directory: worktree || directory, ...more })

  // With the process all its sessions end; nothing but this can be done then. Where opencode closes in
  // good order, at a terminal, it says so; elsewhere it only exits.
  const end = () => {
    for (const sessionID of told.keys()) {
      const input = said("session.end", sessionID)
      spawnSync(PROGRAM, ARGUMENTS, { cwd: directory, input, timeout: MILLISECONDS, stdio: ["pipe", "ignore", "ignore"] })
    }
    told.clear()
  }
  process.on("exit", end)

  const ask = (event, sessionID, more = {}) =>
    new Promise((resolve) => {
      let out = ""
      const child = spawn(PROGRAM, ARGUMENTS, { cwd: directory, stdio: ["pipe", "pipe", "ignore"] })
      const late = setTimeout(() => child.kill(), MILLISECONDS)
      child.on("error", () => (clearTimeout(late), resolve({})))
      child.stdin.on("error", () => {})
      child.stdout.on("data", (some) => (out += some))
      child.on("close", () => {
        clearTimeout(late)
        try {
          resolve(JSON.parse(out) ?? {})
        } catch {
          resolve({})
        }
      })
      child.stdin.end(said(event, sessionID, more))
    })

  const begin = async (sessionID) => {
    if (!told.has(sessionID)) {
      told.set(sessionID, { start: "", prompt: "" })
      told.get(sessionID).start = (await ask("session.start", sessionID)).context ?? ""
    }
    return told.get(sessionID)
  }

  const idle = async (sessionID) => {
    if (children.has(sessionID)) return
    const answer = await ask("session.idle", sessionID, { continued: continued.has(sessionID) })
    continued.delete(sessionID)
    if (!answer.continue) return
    continued.add(sessionID)
    const body = { parts: [{ type: "text", text: answer.continue }] }
    await client.session.prompt({ path: { id: sessionID }, body }).catch(() => {})
  }

  return {
    dispose: async () => end(),
    event: async ({ event }) => {
      const { sessionID, info } = event.properties ?? {}
      if (event.type === "session.created" && info?.parentID) children.add(info.id)
      if (event.type === "session.compacted") told.delete(sessionID)
      if (event.type === "session.idle") await idle(sessionID)
      if (event.type === "session.deleted") {
        told.delete(info?.id)
        await ask("session.end", info?.id)
      }
    },
    "chat.message": async (input) => {
      const session = await begin(input.sessionID)
      session.prompt = (await ask("prompt", input.sessionID)).context ?? ""
    },
    "experimental.chat.system.transform": async (input, output) => {
      const session = input.sessionID ? await begin(input.sessionID) : [...told.values()].at(-1)
      for (const context of [session?.start, session?.prompt]) if (context) output.system.push(context)
    },
    "tool.execute.before": async (input, output) => {
      // One MCP server serves all sessions: a call of its tools says which one it is of.
      if (input.tool.startsWith(SERVER + "_")) output.args.session = input.sessionID
      if (!["write", "edit", "multiedit", "patch", "apply_patch"].includes(input.tool)) return
      const { sessionID, tool } = input
      const answer = await ask("tool.execute.before", sessionID, { tool, args: output.args })
      if (answer.refuse) throw new Error(answer.refuse)
    },
    "tool.execute.after": async (input, output) => {
      if (input.tool !== "bash") return
      const answer = await ask("tool.execute.after", input.sessionID, { tool: input.tool })
      if (answer.context) output.output += `\n${answer.context}`
    },
    "shell.env": async (input, output) => {
      if (input.sessionID) output.env.OPENCODE_SESSION_ID = input.sessionID
    },
  }
}

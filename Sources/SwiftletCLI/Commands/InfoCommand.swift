import CommandLineParsing
import Glibc
import JSONValues

/// `swiftlet info`: what this machine offers, for reports of problems.
enum InfoCommand: RunnableCommand {
  private static let json = Option(flag: "json", "Print one JSON object.")

  static let command = Command(
    name: "info", summary: "Show version, processor, memory and cache folder.", options: [json.declaration])

  static func run(_ arguments: ParsedArguments) throws {
    let machine = Machine.current
    if arguments[json] {
      let object: JSONObject = [
        "version": .string(SwiftletTool.version),
        "system": .string(machine.system),
        "processor": .string(machine.processor),
        "threads": .integer(machine.threads),
        "instructions": .array(machine.instructions.map { .string($0) }),
        "memory_bytes": .integer(machine.memory),
        "available_bytes": .integer(machine.availableMemory),
        "cache": .string(machine.cacheFolder),
      ]
      return try StandardOutput.write(JSONValue.object(object).serialized() + "\n")
    }
    let memory = "\(Formatting.bytes(machine.memory)), \(Formatting.bytes(machine.availableMemory)) available"
    try StandardOutput.write(
      """
      swiftlet      \(SwiftletTool.version)
      system        \(machine.system)
      processor     \(machine.processor)
      threads       \(machine.threads)
      instructions  \(machine.instructions.isEmpty ? "baseline" : machine.instructions.joined(separator: ", "))
      memory        \(memory)
      cache         \(machine.cacheFolder)

      """)
  }
}

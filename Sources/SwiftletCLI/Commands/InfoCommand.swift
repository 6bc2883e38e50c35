import CUDADevice
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
        "gpu": gpu(),
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
      \(gpuLines().joined(separator: "\n"))

      """)
  }

  // MARK: GPU

  private static func gpuLines() -> [String] {
    let libraries = CUDALibraries.found
    func line(_ name: String, _ text: String) -> String {
      name + String(repeating: " ", count: max(1, 14 - name.count)) + text
    }
    var lines = [line("gpu", libraries.problem ?? (try? CUDADevice().description) ?? "cannot be used")]
    // Without a driver the other libraries matter to nobody.
    guard libraries.findings.contains(where: { $0.library == .driver && $0.problem == nil }) else { return lines }
    for finding in libraries.findings {
      let found = [finding.version, finding.path, finding.problem].compactMap { $0 }.joined(separator: ", ")
      lines.append(line("  " + finding.library.rawValue, found))
    }
    if let command = libraries.installCommand { lines.append(line("  to install", command)) }
    return lines
  }

  private static func gpu() -> JSONValue {
    let libraries = CUDALibraries.found
    var object: JSONObject = [:]
    object["problem"] = libraries.problem.map { .string($0) } ?? .null
    object["libraries"] = .array(
      libraries.findings.map { finding in
        var entry: JSONObject = ["name": .string(finding.library.rawValue)]
        entry["path"] = finding.path.map { .string($0) }
        entry["version"] = finding.version.map { .string($0) }
        entry["problem"] = finding.problem.map { .string($0) }
        return .object(entry)
      })
    object["install"] = libraries.installCommand.map { .string($0) }
    return .object(object)
  }
}

import CPUDevice
import CommandLineParsing
import Glibc
import JSONValues
import ModelFiles
import Swiftlet
import Training

/// `swiftlet bench`: tokens per second, memory, and where the time goes.
enum BenchCommand: RunnableCommand {
  private static let standard = ["train:4x512", "train:1x2048", "prefill:512", "evaluate:512", "decode:128"]

  private static let model = Option<String?>(
    "model", "MODEL",
    "A Hugging Face folder or a .gguf file; or a shape to fill with random weights: \(KnownShapes.names.joined(separator: ", "))."
  )
  private static let workload = Option(
    repeated: "workload", aliases: ["w"], "NAME",
    "What to time, may be repeated: \(standard.joined(separator: ", ")), or with other sizes; all of these when not given."
  )
  private static let repetitions = Option(
    "repetitions", aliases: ["steps"], "N", default: 5, in: 1...10000, "Timed repetitions after two that warm up.")

  static let command = Command(
    name: "bench", summary: "Time training, prompts and answers on this machine.",
    examples: [
      "--model model.gguf", "--model model.gguf --workload train:8x256 --json",
      "--model phi-4 --device cuda --workload train:2x2048",
    ],
    options: [model.declaration, workload.declaration, repetitions.declaration, JSONOption.json.declaration]
      + ModelOptions.machine)

  static func run(_ arguments: ParsedArguments) throws {
    guard let path = arguments[model] else {
      throw InputFailure("--model is missing; name a model folder or a .gguf file")
    }
    let names = arguments[workload]
    let workloads = try (names.isEmpty ? standard : names).map { name in
      guard let workload = Benchmark.Workload(name) else {
        throw InputFailure("--workload: \"\(name)\" is not like one of \(standard.joined(separator: ", "))")
      }
      return workload
    }
    let device = try DeviceSelection.device(
      arguments[ModelOptions.device], compute: arguments[ModelOptions.compute],
      threads: arguments[ModelOptions.threads], note: { StandardError.write("swiftlet: \($0)\n") })
    let benchmark =
      if let shape = KnownShapes.configuration(path) {
        try Benchmark(random: shape, on: device)
      } else {
        try readingInput { try Benchmark(Checkpoint.open(path: ModelOptions.path(path)), on: device) }
      }
    for workload in workloads {
      let row = try benchmark.run(workload, repetitions: arguments[repetitions])
      try StandardOutput.write(arguments[JSONOption.json] ? json(row, benchmark.device) : text(row))
    }
  }

  private static func json(_ row: Benchmark.Row, _ device: String) -> String {
    var object: JSONObject = [
      "name": .string(row.name), "tokens_per_second": .number(row.tokensPerSecond),
      "step_seconds": .number(row.stepSeconds),
    ]
    object["peak_bytes"] = row.peakBytes.map { .integer($0) }
    object["loss"] = row.loss.map { .number($0) }
    object["grad_norm"] = row.gradientNorm.map { .number($0) }
    object["shares"] = .object(JSONObject(row.shares.map { (key: $0.name, value: .number($0.share)) }))
    object["device"] = .string("\(Machine.current.processor), \(device)")
    // A binary does not know where it was built from; script/bench does.
    object["commit"] = getenv("SWIFTLET_COMMIT").map { .string(String(cString: $0)) } ?? .null
    return JSONValue.object(object).serialized() + "\n"
  }

  private static func text(_ row: Benchmark.Row) -> String {
    func padded(_ text: String, _ width: Int) -> String {
      text + String(repeating: " ", count: max(1, width - text.count))
    }
    var text = padded(row.name, 14) + padded("\(Formatting.count(row.tokensPerSecond)) tokens/s", 17)
    text += padded("\(Formatting.fixed(row.stepSeconds * 1000, 1)) ms", 12)
    if let peak = row.peakBytes { text += padded(Formatting.bytes(peak), 10) }
    if let loss = row.loss { text += padded("loss \(Formatting.fixed(loss, 3))", 13) }
    if let norm = row.gradientNorm { text += "grad \(Formatting.fixed(norm, 2))" }
    let shares = row.shares.filter { $0.share >= 0.005 }.map { "\($0.name) \(Formatting.fixed($0.share * 100, 0))%" }
    return text + "\n" + padded("", 14) + shares.joined(separator: ", ") + "\n"
  }
}

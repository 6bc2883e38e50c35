import CommandLineParsing
import JSONValues
import ModelFiles
import Models
import Swiftlet
import Training

extension TrainingConfiguration.OptimizerChoice: CommandChoice {}

/// `swiftlet plan`: what training a model would take and how long a step, before anything is loaded.
enum PlanCommand: RunnableCommand {
  private static let model = Argument(
    "MODEL",
    "A Hugging Face folder, a .gguf file, OWNER/NAME on the hub, or a shape: \(KnownShapes.names.joined(separator: ", ")), or the config.json of another."
  )
  private static let memory = Option<String?>(
    "memory", "SIZE", "The device's memory to stay within, such as 24GB; what is free when not given.")
  private static let context = Option(
    "context", aliases: ["max-seq-length"], "N", default: 2048, in: 2...16_777_216, "Tokens of a sample.")
  private static let batchSize = Option(
    "batch-size", aliases: ["b"], "N", default: 1, in: 1...65_536, "Samples of a micro-batch.")
  private static let rank = Option(
    "lora-rank", aliases: ["rank", "r"], "N", default: 16, in: 1...65_536, "Rank of the adapter.")
  private static let optimizer = Option(
    "optimizer", "adamw|adamw8bit", default: TrainingConfiguration.OptimizerChoice.adamw, "What keeps the moments.")
  private static let longest = Option(flag: "longest", "Find the longest context that fits, and plan it.")

  private static let measure = Option(
    flag: "measure", "Measure the device's rates again, which other work may have disturbed.")

  static let command = Command(
    name: "plan", summary: "Show what training would take: memory, part by part, and seconds of a step.",
    examples: ["phi-4 --quantization nf4 --memory 24GB --context 16384", "model.gguf --batch-size 4 --json"],
    arguments: [model.declaration],
    options: [
      memory.declaration, ModelOptions.hostMemory.declaration, context.declaration, batchSize.declaration,
      rank.declaration, optimizer.declaration,
      longest.declaration, measure.declaration, JSONOption.json.declaration,
    ] + ModelOptions.loading + [ModelOptions.head.declaration])

  static func run(_ arguments: ParsedArguments) throws {
    let name = arguments[model]
    let budget = try ModelOptions.bytes(arguments[memory], of: "memory")
    let (checkpoint, configuration) = try readingInput {
      if let shape = try KnownShapes.shape(name) { return (Checkpoint?.none, shape) }
      let checkpoint = try Checkpoint.open(path: ModelOptions.path(name))
      return (checkpoint, checkpoint.configuration)
    }
    let device = try DeviceSelection.device(
      arguments[ModelOptions.device], compute: arguments[ModelOptions.compute],
      threads: arguments[ModelOptions.threads], note: { StandardError.write("swiftlet: \($0)\n") })
    if arguments[measure] { _ = try DeviceRates.known(on: device, for: configuration, again: true) }
    var lora = LoRAConfiguration()
    lora.rank = arguments[rank]
    var planner = try StepPlanning.planner(
      of: configuration, storedIn: checkpoint, quantization: arguments[ModelOptions.quantization],
      head: arguments[ModelOptions.head], adapter: lora,
      quantizesMoments: arguments[optimizer] == .adamw8bit, tokens: arguments[batchSize] * arguments[context],
      context: arguments[context], memory: budget,
      hostMemory: try ModelOptions.bytes(arguments[ModelOptions.hostMemory], of: "host-memory", least: 0), on: device)
    var nearest: Int?
    if arguments[longest] {
      let found = planner.longestContext(on: device)
      nearest = found
      if found > 0 { (planner.extent.tokens, planner.context) = (found, found) }
    }
    let plan = planner.plan(on: device)
    if plan == nil, nearest == nil { nearest = planner.longestContext(on: device) }
    let report = PlanReport(
      plan: plan, budget: planner.budget, tokens: planner.extent.tokens,
      layerCount: configuration.layerCount, longest: nearest, device: device.description)
    try StandardOutput.write(
      arguments[JSONOption.json] ? JSONValue.object(report.json).serialized() + "\n" : report.text)
    if plan == nil, !arguments[JSONOption.json] { throw PlanFailure(description: report.refusal) }
  }

  /// Nothing fits; the exit status is 1.
  private struct PlanFailure: Error, CustomStringConvertible { let description: String }
}

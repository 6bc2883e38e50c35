import JSONValues
import Models
import Tensors
import Training

/// A plan as a table that a person reads, and as JSON.
struct PlanReport {
  let plan: StepPlan?
  let budget: Int
  let tokens: Int
  let layerCount: Int
  /// The longest context that fits, where it was looked for.
  let longest: Int?
  let device: String

  /// What is said when nothing fits.
  var refusal: String {
    let size = Formatting.bytes(budget)
    guard let longest, longest > 0 else { return "no plan fits \(size): the model itself is too large for it" }
    return
      "no plan of \(tokens) tokens at once fits \(size): one sample of \(longest) does; lower --batch-size or --context"
  }

  /// Layers side by side that are alike.
  private static func runs(
    of plan: ActivationPlan, layerCount: Int
  ) -> [(layers: Range<Int>, layer: ActivationPlan.Layer)] {
    var runs: [(layers: Range<Int>, layer: ActivationPlan.Layer)] = []
    for index in 0..<layerCount {
      let layer = plan[index]
      if let last = runs.last, last.layer == layer {
        runs[runs.count - 1].layers = last.layers.lowerBound..<index + 1
      } else {
        runs.append((index..<index + 1, layer))
      }
    }
    return runs
  }

  private static func word(_ memory: LayerMemory) -> String {
    switch memory {
    case .input: "input"
    case .attention: "attention"
    case .projections: "projections"
    case .everything: "everything"
    }
  }

  private static func word(_ head: FrozenStorage) -> String {
    switch head {
    case .operands: "bf16"
    case .tiled(.int8): "8bit"
    case .tiled(.nf4), .nf4: "nf4"
    }
  }

  private static func meaning(_ memory: LayerMemory) -> String {
    switch memory {
    case .input: "keep their input, compute everything again"
    case .attention: "keep input and attention's output, compute projections again"
    case .projections: "keep all but gate and up, compute these again"
    case .everything: "keep everything"
    }
  }

  private static func meaning(_ grouping: ActivationPlan.Grouping, of layers: Int) -> String {
    guard grouping.size > 1 else { return "keep their input, compute everything again" }
    return layers % grouping.size == 0
      ? "in groups of \(grouping.size), whose first keeps its input"
      : "in groups of \(grouping.size), the first one smaller, whose first layer keeps its input"
  }

  /// What a group keeps while it is computed forward once more and goes backward.
  private static func secondPass(_ grouping: ActivationPlan.Grouping) -> String {
    let attentions =
      grouping.attentions > 0
      ? ", attention's output of \(grouping.attentions) of \(grouping.size) layers beside inputs" : ""
    return "  groups      go forward once more before they go backward, one after the other\(attentions)"
      + (grouping.isOnHost ? ", in the host's memory" : "")
  }

  /// What layers keep, where, and how much of a batch goes through at once.
  static func choices(of plan: ActivationPlan, layerCount: Int) -> [JSONValue] {
    var choices: [JSONValue] = runs(of: plan, layerCount: layerCount).map { run in
      .object([
        "choice": "layers", "first": .integer(run.layers.lowerBound), "last": .integer(run.layers.upperBound - 1),
        "keep": .string(plan.grouping == nil ? word(run.layer.keeps) : "input-of-group"),
        "place": run.layer.isOnHost ? "host" : "device",
      ])
    }
    if let grouping = plan.grouping {
      choices.append(
        .object([
          "choice": "groups", "size": .integer(grouping.size),
          "layers_with_attention": .integer(grouping.attentions), "place": grouping.isOnHost ? "host" : "device",
        ]))
    }
    return choices + [
      .object(["choice": "tile", "value": plan.tile.map { .integer($0) } ?? .null]),
      .object(["choice": "head_rows", "value": plan.headRows.map { .integer($0) } ?? .null]),
      .object(["choice": "rounded_inputs", "value": .bool(plan.roundsInputs)]),
    ]
  }

  /// Where weights, head, moments and embedding lie.
  static func choices(of storage: WeightStorage) -> [JSONValue] {
    [
      .object([
        "choice": "streamed_layers", "layers": .array(storage.streamedLayers.map { .integer($0) }),
        "places": .integer(storage.streamPlaces),
      ]),
      .object(["choice": "head", "value": .string(word(storage.head))]),
      .object(["choice": "moments", "value": storage.momentsAreOnHost ? "host" : "device"]),
      .object(["choice": "embedding", "value": storage.embeddingIsOnHost ? "host" : "device"]),
    ]
  }

  var json: JSONObject {
    guard let plan else {
      var object: JSONObject = ["fits": .bool(false), "budget_bytes": .integer(budget)]
      object["longest_context"] = longest.map { .integer($0) }
      return object
    }
    let footprint = plan.footprint
    let choices =
      Self.choices(of: plan.activations, layerCount: layerCount)
      + [.object(["choice": "weights", "value": plan.weightsAreResident ? "resident" : "on-use"])]
      + Self.choices(of: plan.storage)
    var object: JSONObject = [
      "fits": .bool(true), "predicted_bytes": .integer(footprint.total), "budget_bytes": .integer(budget),
      "predicted_step_seconds": .number(plan.seconds), "tokens_per_second": .number(Double(tokens) / plan.seconds),
      "bytes": .object([
        "layers": .integer(footprint.layers), "embedding_and_head": .integer(footprint.vocabulary),
        "learned": .integer(footprint.learned), "working": .integer(footprint.working),
        "activations": .integer(footprint.activations), "host": .integer(footprint.host),
      ]),
      "choices": .array(choices), "device": .string(device),
    ]
    object["longest_context"] = longest.map { .integer($0) }
    return object
  }

  var text: String {
    guard let plan else { return "" }
    let footprint = plan.footprint
    func row(_ name: String, _ bytes: Int, _ note: String = "") -> String {
      let size = Formatting.bytes(bytes)
      return "  " + name + String(repeating: " ", count: max(1, 24 - name.count))
        + String(repeating: " ", count: max(0, 10 - size.count)) + size + (note.isEmpty ? "" : "  " + note)
    }
    var lines = ["\(device)", "memory"]
    lines += [
      row("layers", footprint.layers, weightsNote(plan)),
      row("embedding and head", footprint.vocabulary, vocabularyNote(plan)),
      row(
        "what learns", footprint.learned,
        plan.storage.momentsAreOnHost
          ? "parameters, gradients; moments come from the host's memory in turn" : "parameters, gradients, moments"),
      row("the device's own", footprint.working),
      row("activations", footprint.activations, activationNote(plan.activations)),
      row("together", footprint.total, "of \(Formatting.bytes(budget))"),
    ]
    if footprint.host > 0 { lines.append(row("in the host's memory", footprint.host)) }
    lines.append("layers")
    for run in Self.runs(of: plan.activations, layerCount: layerCount) {
      let (first, last) = (run.layers.lowerBound, run.layers.upperBound - 1)
      let name = first == last ? "\(first)" : "\(first) to \(last)"
      lines.append(
        "  " + name + String(repeating: " ", count: max(1, 12 - name.count))
          + (plan.activations.grouping.map { Self.meaning($0, of: layerCount) } ?? Self.meaning(run.layer.keeps))
          + (run.layer.isOnHost ? ", in the host's memory" : ""))
    }
    if let grouping = plan.activations.grouping, grouping.size > 1 { lines.append(Self.secondPass(grouping)) }
    lines.append(
      "step    \(Formatting.fixed(plan.seconds, plan.seconds < 10 ? 3 : 1)) s expected for \(tokens) tokens, "
        + "\(Formatting.count(Double(tokens) / plan.seconds)) tokens/s")
    if let longest { lines.append("longest \(longest) tokens in one sample") }
    return lines.joined(separator: "\n") + "\n"
  }

  private func vocabularyNote(_ plan: StepPlan) -> String {
    [
      plan.storage.head.headBits.map { "the head in \($0), which changes the model a little" },
      plan.storage.embeddingIsOnHost ? "embedding rows are gathered in the host's memory" : nil,
    ].compactMap { $0 }.joined(separator: "; ")
  }

  private func weightsNote(_ plan: StepPlan) -> String {
    let streamed = plan.storage.streamedLayers.count
    return [
      plan.weightsAreResident ? nil : "dequantized for each use",
      streamed == 0
        ? nil
        : "\(streamed) of \(layerCount) layers come from the host's memory in turn, in "
          + (plan.storage.streamPlaces == 1 ? "one place" : "\(plan.storage.streamPlaces) places"),
    ].compactMap { $0 }.joined(separator: "; ")
  }

  private func activationNote(_ plan: ActivationPlan) -> String {
    [
      plan.tile.map { "\($0) tokens at a time through all but attention" },
      plan.roundsInputs ? "kept inputs rounded" : nil,
    ].compactMap { $0 }.joined(separator: ", ")
  }
}

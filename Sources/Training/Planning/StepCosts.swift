import ModelFiles
import Models
import Tensors

#if canImport(Glibc)
  import Glibc
#endif

/// What a training step of a model costs on a device: seconds, from counts of operations and bytes and the device's rates.
struct StepCosts {
  let configuration: ModelConfiguration
  let rates: DeviceRates
  /// Tokens of a micro-batch, and of its documents.
  let tokens: Int
  let context: Int
  /// Bytes of an element of matrix operands.
  let operandBytes: Double
  /// Whether matrices are dequantized for each use.
  let dequantizes: Bool
  /// Elements that an adapter of rank 16 reads or writes of a token in a layer, as many for a larger rank as its products grow.
  let adapterWidth: Double

  init(_ extent: TrainingExtent, context: Int, rates: DeviceRates, on device: any Device) {
    configuration = extent.configuration
    self.rates = rates
    tokens = extent.tokens
    self.context = context
    operandBytes = Double(device.computeType.byteCount)
    adapterWidth =
      extent.adapter.map { adapter in
        let widths = adapter.targetModules.reduce(0) {
          $0 + extent.configuration.size(of: $1).outputs + extent.configuration.size(of: $1).inputs
        }
        return Double(widths) * Double(adapter.rank) / 16
      } ?? 0
    dequantizes = extent.storage[TargetModule.down.path(layer: 0)] == .nf4(resident: false)
  }

  /// Seconds of a step by `plan`.
  func seconds(
    of plan: ActivationPlan, _ extent: TrainingExtent, _ traffic: HostTraffic, on device: any Device
  ) -> Double {
    let tiles = plan.tile.map { (tokens + $0 - 1) / $0 } ?? 1
    if let grouping = plan.grouping {
      let firsts = grouping.groups(of: configuration.layerCount).map(\.lowerBound)
      return self.seconds(
        Groups(grouping: grouping, onHost: firsts.count { plan[$0].isOnHost }), rounds: plan.roundsInputs, tiles: tiles,
        ends: ends(extent, plan, on: device), traffic)
    }
    let again = (0..<configuration.layerCount).reduce(0) { sum, index in
      sum + self.again(keeping: plan[index].keeps, tiles: tiles)
    }
    return together(
      Double(configuration.layerCount) * layer(tiles: tiles), again: again, ends: ends(extent, plan, on: device),
      hostBytes: extent.activationByteCounts(plan, on: device).host, traffic)
  }

  /// What layers compute, in both passes and again in the second, with what travels beside it, and what comes before and after.
  func together(
    _ layers: Double, again: Double, ends: Double, hostBytes: Int, _ traffic: HostTraffic
  ) -> Double {
    let open = traffic.isOpened ? 0 : Double(traffic.layers * traffic.byteCount) * 2 / rates.elements
    let forward = layers * forwardShare + open
    let backward = layers * (1 - forwardShare) + again + open
    let activations = Double(hostBytes) / rates.host
    // What is kept goes out while weights come in; both come in on the way back.
    let seconds =
      max(forward, activations, traffic.seconds(beside: forward, configuration.layerCount, rates.host))
      + max(
        backward, activations + traffic.seconds(beside: backward, configuration.layerCount, rates.host))
    // Moments go the same way out as in, one after the other, when gradients are whole.
    return ends + seconds + 2 * Double(traffic.momentBytes) / rates.host
      + (hostBytes > 0 || traffic.copies > 0 ? 0.02 * (forward + backward) : 0)
  }

  private func weights(_ modules: TargetModule...) -> Double {
    modules.reduce(0) { $0 + Double(configuration.size(of: $1).outputs) * Double(configuration.size(of: $1).inputs) }
  }
  private var hidden: Double { Double(configuration.hiddenSize) }
  private var queryWidth: Double { Double(configuration.headCount * configuration.headDimension) }
  private var keyValueWidth: Double { Double(configuration.keyValueHeadCount * configuration.headDimension) }
  private var intermediate: Double { Double(configuration.intermediateSize) }

  /// Products with so many weights, once over all tokens.
  private func product(_ weights: Double) -> Double { 2 * weights * Double(tokens) / rates.products }
  /// Operations on elements that read and write so many bytes for each token.
  private func elements(_ bytesPerToken: Double) -> Double { bytesPerToken * Double(tokens) / rates.elements }
  /// Matrices of so many weights opened once for each tile.
  private func opening(_ weights: Double, tiles: Int) -> Double {
    guard dequantizes else { return 0 }
    return Double(tiles) * (rates.opening.map { weights / $0 } ?? weights * (0.52 + operandBytes) / rates.elements)
  }

  /// Operations of one layer's causal attention, forward; backward takes 2.5 times as many.
  private var attentionOperations: Double { 2 * Double(context) * queryWidth * Double(tokens) }
  private var attention: Double { attentionOperations / rates.attention(context: context) }
  private var attentionBackward: Double { 2.5 * attentionOperations / rates.attentionBackward(context: context) }

  private var attentionWeights: Double { weights(.query, .key, .value, .output) }
  private var mlpWeights: Double { weights(.gate, .up, .down) }

  /// The forward pass's part of what a layer computes.
  private var forwardShare: Double {
    let products = product(attentionWeights + mlpWeights)
    return (products + attention) / (2 * products + attention + attentionBackward)
  }

  /// One layer, forward.
  func forward(tiles: Int) -> Double { forwardShare * layer(tiles: tiles) }

  /// One layer, forward and backward, nothing computed again.
  func layer(tiles: Int) -> Double {
    let all = attentionWeights + mlpWeights
    // Low-rank products are as thin as reading and writing what they multiply.
    let widths = 2 * (2 * hidden + queryWidth + keyValueWidth + 2 * intermediate)
    let thin = rates.lowRank == nil ? 3 * operandBytes * widths : 0
    let lowRank = (rates.lowRank ?? 0) * Double(tokens) * adapterWidth
    let norms = hidden * (2 * (4 + 2 * operandBytes) + 2 * (4 + 8 + 2 * operandBytes) + 4 * operandBytes + 16)
    let activation = intermediate * operandBytes * 9
    let rotation = 4 * operandBytes * (queryWidth + keyValueWidth)
    return 2 * product(all) + attention + attentionBackward
      + elements(thin + norms + activation + rotation) + lowRank + opening(2 * all, tiles: tiles)
  }

  /// What a layer that keeps `level` computes again.
  func again(keeping level: LayerMemory, tiles: Int) -> Double {
    let gateUp =
      product(weights(.gate, .up)) + opening(weights(.gate, .up), tiles: tiles)
      + elements(3 * operandBytes * intermediate + 2 * operandBytes * hidden)
    let projections =
      product(attentionWeights) + opening(attentionWeights, tiles: tiles)
      + elements(hidden * (12 + 4 * operandBytes) + 2 * operandBytes * (queryWidth + keyValueWidth))
    return switch level {
    case .everything: 0
    case .projections: gateUp
    case .attention: gateUp + projections
    case .input: gateUp + projections + attention
    }
  }

  /// Processors that decode the embedding's rows together.
  private static let processors = Double(min(16, max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)))))

  /// The head over all tokens, the embedding and the optimizer.
  func ends(_ extent: TrainingExtent, _ plan: ActivationPlan, on device: any Device) -> Double {
    let headRows = plan.headRows ?? device.headRows
    let learned = Double(extent.parameterCount)
    let vocabulary = Double(configuration.vocabularySize)
    let chunks = (Double(tokens) / Double(max(headRows, 1))).rounded(.up)
    // Where few rows go through at once, each chunk reads the whole head.
    let head = max(
      2 * product(vocabulary * hidden), chunks * 2 * vocabulary * hidden * operandBytes / rates.elements)
    // A head in few bits is opened for each product.
    let codes: Double =
      switch extent.storage["lm_head"] {
      case .tiled(.int8): 1.06
      case .tiled(.nf4), .nf4: 0.52
      case .operands: 0
      }
    let opening =
      codes > 0 ? chunks * 2 * vocabulary * hidden * (codes + operandBytes) / rates.elements : 0
    let embedding =
      extent.storage.embeddingIsOnHost ? Double(tokens) * hidden * (4 / rates.host + 1e-9 / Self.processors) : 0
    return head + opening + elements(vocabulary * (8 + 2 * operandBytes)) + embedding + 36 * learned / rates.elements
  }
}

import Models

// What layers in groups cost beside what layers cost: a group's layers go forward once more, and what travels to the host passes
// through one place, so that nothing is computed meanwhile.
extension StepCosts {
  /// Layers in groups, of which some keep their inputs with the host.
  struct Groups {
    var grouping: ActivationPlan.Grouping
    /// Groups whose first layer's input lies with the host.
    var onHost: Int
  }

  /// Bytes of a layer's input and of attention's output with its statistics; `rounds`: inputs in the type of operands.
  func keptByteCounts(rounds: Bool) -> (input: Int, attention: Int) {
    let operand = Int(operandBytes)
    return (
      tokens * configuration.hiddenSize * (rounds ? operand : 4),
      tokens * (configuration.headCount * configuration.headDimension * operand + configuration.headCount * 4)
    )
  }

  /// Bytes that groups keep with the host.
  func hostByteCount(_ groups: Groups, rounds: Bool) -> Int {
    let (input, attention) = keptByteCounts(rounds: rounds)
    let own = groups.grouping.isOnHost ? Self.own(groups.grouping, groups.grouping.size) : (inputs: 0, attentions: 0)
    return groups.onHost * input + own.inputs * input + own.attentions * attention
  }

  /// What a group of `count` layers keeps for itself, beside its first one's input.
  private static func own(_ grouping: ActivationPlan.Grouping, _ count: Int) -> (inputs: Int, attentions: Int) {
    (max(0, count - 2), max(0, min(grouping.attentions, count - 1)))
  }

  /// Seconds of a step whose layers are grouped.
  func seconds(_ groups: Groups, rounds: Bool, tiles: Int, ends: Double, _ traffic: HostTraffic) -> Double {
    let ranges = groups.grouping.groups(of: configuration.layerCount)
    let (input, attention) = keptByteCounts(rounds: rounds)
    let (once, layer) = (forward(tiles: tiles), layer(tiles: tiles))
    let (withAttention, without) = (again(keeping: .attention, tiles: tiles), again(keeping: .input, tiles: tiles))
    var (again, copies) = (0.0, 2 * groups.onHost * input)
    for (index, range) in ranges.enumerated() {
      let own = Self.own(groups.grouping, range.count)
      again += Double(own.attentions) * withAttention + Double(range.count - own.attentions) * without
      if groups.grouping.isOnHost { copies += 2 * (own.inputs * input + own.attentions * attention) }
      if index < ranges.count - 1 {
        again += Double(range.count - 1) * once
        // The group's input comes once to go forward from, and once more to go backward.
        if range.count > 1, index < groups.onHost { copies += input }
      }
    }
    let count = Double(configuration.layerCount)
    let open = traffic.isOpened ? 0 : Double(traffic.layers * traffic.byteCount) * 2 / rates.elements
    let forward = count * once + open
    let backward = count * (layer - once) + again + open
    // Weights come for both passes, and for the layers that go forward again.
    let weights = [
      traffic.seconds(beside: forward, configuration.layerCount, rates.host),
      2 * traffic.seconds(beside: backward / 2, configuration.layerCount, rates.host),
    ]
    return ends + max(forward, weights[0]) + max(backward, weights[1])
      + Double(copies + 2 * traffic.momentBytes) / rates.host
      + (traffic.copies > 0 ? 0.02 * (forward + backward) : 0)
  }
}

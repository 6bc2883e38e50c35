import Models
import TestSupport

#if canImport(Glibc)
  import Glibc
#endif

/// The forward pass of a Llama in float64, written as the papers have it: what the fused operations must agree with.
///
/// Activations are rows of features. Positions are turned by the plain frequencies only. A fused tensor counts as the
/// several that it holds.
struct ReferenceModel {
  let tiny: TinyModel
  var weights: [String: [Double]]
  /// A and B of a module's path, the scale apart.
  var adapter: [String: (a: [Double], b: [Double])] = [:]
  var scale = 1.0
  /// DoRA's magnitudes of a module's path, and the norms of its rows.
  var magnitudes: [String: [Double]] = [:]
  var rowNorms: [String: [Double]] = [:]
  /// What dropout multiplies the rows of an adapter's input by.
  var masks: [String: [[Double]]] = [:]

  init(_ tiny: TinyModel) {
    self.tiny = tiny
    var weights: [String: [Double]] = [:]
    let (hidden, inner) = (tiny.size("hidden_size"), tiny.size("intermediate_size"))
    let queries = tiny.size("num_attention_heads") * tiny.headDimension * hidden
    let keys = tiny.size("num_key_value_heads") * tiny.headDimension * hidden
    for (name, shape) in tiny.tensors {
      let values = tiny.values(name, shape).map { Double($0) }
      weights[name] = values
      if name.contains("qkv_proj") {
        weights[name.replacing("qkv", with: "q")] = Array(values[..<queries])
        weights[name.replacing("qkv", with: "k")] = Array(values[queries..<queries + keys])
        weights[name.replacing("qkv", with: "v")] = Array(values[(queries + keys)...])
      } else if name.contains("gate_up_proj") {
        weights[name.replacing("gate_up", with: "gate")] = Array(values[..<(inner * hidden)])
        weights[name.replacing("gate_up", with: "up")] = Array(values[(inner * hidden)...])
      }
    }
    self.weights = weights
  }

  /// Takes over the elements of an adapter.
  ///
  /// The norms of adapted rows are those of the first elements that are taken over: in DoRA's gradient they are constants.
  mutating func set(_ adapter: Adapter, _ values: [Double]) {
    scale = adapter.configuration.scale
    let pairs = adapter.parts.count { $0.role == .lowRankA }
    for index in 0..<pairs {
      // A's come first, B's follow in the same order, then magnitudes.
      let (a, b) = (adapter.parts[index], adapter.parts[pairs + index])
      let path = String(a.name.dropFirst("base_model.model.".utf8.count).dropLast(".lora_A.weight".utf8.count))
      self.adapter[path] = (Array(values[a.range]), Array(values[b.range]))
      guard adapter.configuration.useDoRA else { continue }
      magnitudes[path] = Array(values[adapter.parts[2 * pairs + index].range])
      if rowNorms[path] == nil { rowNorms[path] = norms(path, a.rows, a.columns) }
    }
  }

  /// ‖W_o + s · (B · A)_o‖.
  private func norms(_ path: String, _ rank: Int, _ inputs: Int) -> [Double] {
    guard let weight = weights["\(path).weight"], let pair = adapter[path] else { return [] }
    return (0..<weight.count / inputs).map { row in
      (0..<inputs).reduce(0.0) { sum, column in
        let low = (0..<rank).reduce(0.0) { $0 + pair.b[row * rank + $1] * pair.a[$1 * inputs + column] }
        let value = weight[row * inputs + column] + scale * low
        return sum + value * value
      }.squareRoot()
    }
  }

  /// The summed cross-entropy of a batch's trained tokens.
  func loss(_ batch: PackedBatch) -> Double {
    tokenLosses(batch).reduce(0, +)
  }

  /// The cross-entropy of each trained token.
  func tokenLosses(_ batch: PackedBatch) -> [Double] {
    let logits = logits(batch)
    return batch.targets.indices.filter { batch.targets[$0] >= 0 }.map { row in
      log(logits[row].reduce(0) { $0 + exp($1) }) - logits[row][Int(batch.targets[row])]
    }
  }

  /// Logits at every position of one sequence.
  func logits(_ tokens: [Int32]) -> [[Double]] {
    var batch = PackedBatch()
    batch.append(tokens, isTrained: [])
    return logits(batch)
  }

  /// Logits at every position of a batch.
  func logits(_ batch: PackedBatch) -> [[Double]] {
    let hidden = tiny.size("hidden_size")
    let table = weights["model.embed_tokens.weight"] ?? []
    var x = batch.tokens.map { Array(table[Int($0) * hidden..<(Int($0) + 1) * hidden]) }
    for layer in 0..<tiny.size("num_hidden_layers") {
      let path = "model.layers.\(layer)"
      let normed = norm(x, "\(path).input_layernorm.weight")
      let rotates = tiny.config["no_rope_layers"]?[layer]?.integer != 0
      func heads(_ letter: String) -> [[Double]] {
        let attention = "\(path).self_attn.\(letter)"
        let heads = headNorm(linear(normed, "\(attention)_proj"), "\(attention)_norm.weight")
        return rotates ? rotated(heads, batch.positions) : heads
      }
      let (q, k) = (heads("q"), heads("k"))
      let v = linear(normed, "\(path).self_attn.v_proj")
      x = sum(x, linear(attention(q, k, v, batch.documents), "\(path).self_attn.o_proj"))
      let middle = norm(x, "\(path).post_attention_layernorm.weight")
      let gate = linear(middle, "\(path).mlp.gate_proj")
      let up = linear(middle, "\(path).mlp.up_proj")
      let activation = zip(gate, up).map { gate, up in zip(gate, up).map { $0 / (1 + exp(-$0)) * $1 } }
      x = sum(x, linear(activation, "\(path).mlp.down_proj"))
    }
    let head = weights["lm_head.weight"] ?? table
    return norm(x, "model.norm.weight").map { product($0, head) }
  }

  /// x · Wᵀ + bias + s · x̃ · Aᵀ · Bᵀ, x̃ = mask ∘ x; with magnitudes, of factors f, PEFT's
  /// x · Wᵀ + bias + (f - 1) ∘ (x̃ · Wᵀ) + f ∘ (s · x̃ · Aᵀ · Bᵀ).
  private func linear(_ x: [[Double]], _ path: String) -> [[Double]] {
    let weight = weights["\(path).weight"] ?? []
    let bias = weights["\(path).bias"]
    let pair = adapter[path]
    let mask = masks[path]
    return x.enumerated().map { row, x in
      var y = product(x, weight)
      if let pair {
        let dropped = mask.map { mask in zip(x, mask[row]).map { $0 * $1 } } ?? x
        let low = product(product(dropped, pair.a), pair.b).map { scale * $0 }
        if let magnitudes = magnitudes[path], let norms = rowNorms[path] {
          let base = product(dropped, weight)
          for column in y.indices {
            let factor = magnitudes[column] / norms[column]
            y[column] += (factor - 1) * base[column] + factor * low[column]
          }
        } else {
          for column in y.indices { y[column] += low[column] }
        }
      }
      if let bias { for column in y.indices { y[column] += bias[column] } }
      return y
    }
  }

  /// matrix · x, the matrix stored row after row.
  private func product(_ x: [Double], _ matrix: [Double]) -> [Double] {
    x.withUnsafeBufferPointer { x in
      matrix.withUnsafeBufferPointer { matrix in
        (0..<matrix.count / x.count).map { row in
          var sum = 0.0
          for column in x.indices { sum += matrix[row * x.count + column] * x[column] }
          return sum
        }
      }
    }
  }

  /// The norm of each head by itself, where the model has one.
  private func headNorm(_ x: [[Double]], _ name: String) -> [[Double]] {
    guard weights[name] != nil else { return x }
    let width = tiny.headDimension
    return x.map { x in
      norm(stride(from: 0, to: x.count, by: width).map { Array(x[$0..<$0 + width]) }, name).flatMap(\.self)
    }
  }

  private func norm(_ x: [[Double]], _ name: String) -> [[Double]] {
    let gamma = weights[name] ?? []
    let epsilon = tiny.config["rms_norm_eps"]?.double ?? 0
    return x.map { x in
      let rms = (x.reduce(0) { $0 + $1 * $1 } / Double(x.count) + epsilon).squareRoot()
      return zip(x, gamma).map { $0 / rms * $1 }
    }
  }

  private func rotated(_ x: [[Double]], _ positions: [Int32]) -> [[Double]] {
    let width = tiny.headDimension
    let theta = tiny.config["rope_theta"]?.double ?? 0
    let turning = Int(Double(width) * (tiny.config["partial_rotary_factor"]?.double ?? 1))
    return zip(x, positions).map { x, position in
      var y = x
      for head in 0..<x.count / width {
        for pair in 0..<turning / 2 {
          let angle = Double(position) * pow(theta, -2 * Double(pair) / Double(turning))
          let (first, second) = (head * width + pair, head * width + pair + turning / 2)
          y[first] = x[first] * cos(angle) - x[second] * sin(angle)
          y[second] = x[second] * cos(angle) + x[first] * sin(angle)
        }
      }
      return y
    }
  }

  private func attention(_ q: [[Double]], _ k: [[Double]], _ v: [[Double]], _ documents: [Range<Int>]) -> [[Double]] {
    let width = tiny.headDimension
    let shared = tiny.size("num_attention_heads") / tiny.size("num_key_value_heads")
    let window = tiny.config["sliding_window"]?.integer ?? Int.max
    var output = q.map { [Double](repeating: 0, count: $0.count) }
    for document in documents {
      for query in document {
        let seen = max(document.lowerBound, query - min(window, query + 1) + 1)...query
        for head in 0..<tiny.size("num_attention_heads") {
          let (mine, theirs) = (head * width, head / shared * width)
          let weights = seen.map { key in
            exp((0..<width).reduce(0) { $0 + q[query][mine + $1] * k[key][theirs + $1] } / Double(width).squareRoot())
          }
          let total = weights.reduce(0, +)
          for (key, weight) in zip(seen, weights) {
            for feature in 0..<width { output[query][mine + feature] += weight / total * v[key][theirs + feature] }
          }
        }
      }
    }
    return output
  }

  private func sum(_ x: [[Double]], _ y: [[Double]]) -> [[Double]] {
    zip(x, y).map { x, y in zip(x, y).map { $0 + $1 } }
  }
}

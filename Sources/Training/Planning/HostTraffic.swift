import ModelFiles
import Models
import Tensors

/// What of a step's weights and moments comes from the host, and what its copies cost beside what is computed.
struct HostTraffic {
  /// Layers that take turns.
  var layers: Int
  /// Places that they take turns in.
  var places: Int
  /// Bytes of one of them.
  var byteCount: Int
  /// Whether their matrices are opened for each use also where they are always on the device.
  var isOpened: Bool
  /// Bytes of the optimizer's moments.
  var momentBytes: Int

  /// That of a step whose matrices are kept as `extent` says.
  init(_ extent: TrainingExtent, on device: any Device) {
    layers = extent.storage.streamedLayers.count
    places = extent.storage.streamPlaces
    momentBytes = extent.storage.momentsAreOnHost ? extent.momentByteCounts.host : 0
    byteCount = layers == 0 ? 0 : (extent.fixedFootprint(on: device).host - momentBytes) / layers
    isOpened = extent.storage[TargetModule.down.path(layer: 0)] != .operands
  }

  /// Layers that are copied in each pass: the last ones of a pass are the first of the next.
  var copies: Int { max(0, layers - places) }

  /// The least seconds of a pass over `count` layers that compute for `compute` seconds together.
  func seconds(beside compute: Double, _ count: Int, _ rate: Double) -> Double {
    guard copies > 0 else { return 0 }
    let one = Double(byteCount) / rate
    // A place is filled while other layers compute than the one that it holds.
    let layer = compute / Double(count)
    let between = Double(places) * Double(count) / Double(layers) - 1
    let late = max(0, one - between * layer)
    return max(compute + Double(copies) * (places == 1 ? late : 0), Double(copies) * one)
  }
}

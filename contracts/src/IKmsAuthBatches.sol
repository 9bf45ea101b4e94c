// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The registry's lists of key management servers, many values at once
/// @notice All of a batch happens or none. Whether a registry has these batches is told by this interface's ERC-165 id.
interface IKmsAuthBatches {
    /// @notice Allows measurements to run as key management server.
    /// @param mrAggregateds The aggregated measurements.
    function addKmsAggregatedMrs(bytes32[] calldata mrAggregateds) external;

    /// @notice Forbids measurements until they are added again.
    /// @param mrAggregateds The aggregated measurements.
    function removeKmsAggregatedMrs(bytes32[] calldata mrAggregateds) external;

    /// @notice Allows machines to host a key management server.
    /// @param deviceIds The machines' ids.
    function addKmsDevices(bytes32[] calldata deviceIds) external;

    /// @notice Forbids machines to host a key management server until they are added again.
    /// @param deviceIds The machines' ids.
    function removeKmsDevices(bytes32[] calldata deviceIds) external;
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Allowlist management, many values at once
/// @notice All of a batch happens or none. Whether a contract has batches is told by this interface's ERC-165 id;
/// dstack's own has none.
interface IAppAuthBatches {
    /// @notice Allows compose files.
    /// @param composeHashes SHA-256 of each raw compose file; none zero.
    function addComposeHashes(bytes32[] calldata composeHashes) external;

    /// @notice Forbids compose files until they are added again.
    /// @param composeHashes SHA-256 of each raw compose file.
    function removeComposeHashes(bytes32[] calldata composeHashes) external;

    /// @notice Allows machines.
    /// @param deviceIds The machines' ids; none zero.
    function addDevices(bytes32[] calldata deviceIds) external;

    /// @notice Forbids machines until they are added again.
    /// @param deviceIds The machines' ids.
    function removeDevices(bytes32[] calldata deviceIds) external;
}

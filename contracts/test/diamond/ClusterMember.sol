// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAppAuth} from "../../src/IAppAuth.sol";

interface ICluster {
    function owner() external view returns (address);
    function dstack_isAppAllowed(IAppAuth.AppBootInfo calldata bootInfo) external view returns (bool, string memory);
}

/// @dev What one CVM of a cluster names as its application. It logs nothing, ever, and has management functions of its
/// own making, so that its interface id is not that of dstack's.
contract ClusterMember is IAppAuth {
    address public immutable cluster;

    constructor(address cluster_) {
        cluster = cluster_;
    }

    function isAppAllowed(AppBootInfo calldata bootInfo) external view returns (bool, string memory) {
        return ICluster(cluster).dstack_isAppAllowed(bootInfo);
    }

    function owner() external view returns (address) {
        return ICluster(cluster).owner();
    }

    function version() external pure returns (uint256) {
        return 1;
    }

    function supportsInterface(bytes4 id) external pure returns (bool) {
        return id == 0x01ffc9a7 || id == 0x1e079198 || id == 0xea8447a1;
    }
}

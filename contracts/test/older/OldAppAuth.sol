// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAppAuth} from "../../src/IAppAuth.sol";

/// @dev The shape of dstack's first controllers, for readers' tests: the application's id is told at creation and is
/// not the contract's address, there is no ERC-165, no owner in two steps and no demand on the platform.
contract OldAppAuth {
    address public immutable owner = msg.sender;
    address public immutable appId;
    mapping(bytes32 composeHash => bool allowed) public allowedComposeHashes;

    event ComposeHashAdded(bytes32 composeHash);
    event ComposeHashRemoved(bytes32 composeHash);

    modifier onlyOwner() {
        require(msg.sender == owner, "not the owner");
        _;
    }

    constructor(address appId_) {
        appId = appId_;
    }

    function addComposeHash(bytes32 composeHash) external onlyOwner {
        allowedComposeHashes[composeHash] = true;
        emit ComposeHashAdded(composeHash);
    }

    function removeComposeHash(bytes32 composeHash) external onlyOwner {
        allowedComposeHashes[composeHash] = false;
        emit ComposeHashRemoved(composeHash);
    }

    function isAppAllowed(IAppAuth.AppBootInfo calldata bootInfo) external view returns (bool, string memory) {
        if (bootInfo.appId != appId) return (false, "Wrong app controller");
        if (!allowedComposeHashes[bootInfo.composeHash]) return (false, "Compose hash not allowed");
        return (true, "");
    }
}
